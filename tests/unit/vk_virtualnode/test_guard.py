"""What the guard refuses to let go is what `deploy/manager/consumer` installs."""

from typing import Any

import yaml

from deploy.lab.paths import ROOT
from vk.virtualnode import guard

_KINDS = {
    "Namespace": "namespaces",
    "ServiceAccount": "serviceaccounts",
    "Deployment": "deployments",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "Role": "roles",
    "RoleBinding": "rolebindings",
}


def installed() -> list[dict[str, Any]]:
    folders = ("deploy/manager/base", "deploy/manager/consumer", "deploy/rbac/peers")
    files = [file for folder in folders for file in (ROOT / folder).glob("*.yaml")]
    files += (ROOT / "deploy/rbac").glob("consumer-*.yaml")
    found = (document for file in files for document in yaml.safe_load_all(file.read_text()))
    return [document for document in found if document.get("kind") in _KINDS]


def test_everything_that_the_removal_of_virtual_nodes_takes_is_guarded() -> None:
    guarded = {
        (rule["resources"][0], name)
        for rule in guard.policy("isthmus")["spec"]["matchConstraints"]["resourceRules"]
        for name in rule["resourceNames"]
    }
    missing = {(_KINDS[one["kind"]], one["metadata"]["name"]) for one in installed()} - guarded
    assert not missing


def test_only_deletions_are_refused_and_the_refusal_says_what_to_do() -> None:
    spec = guard.policy("isthmus")["spec"]
    assert {tuple(rule["operations"]) for rule in spec["matchConstraints"]["resourceRules"]} == {("DELETE",)}
    message = spec["validations"][0]["message"]
    assert "kubectl get virtualnodes" in message
    assert guard.binding()["metadata"]["name"] in message
