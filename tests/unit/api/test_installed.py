"""What is held in place is what `deploy/manager` installs, as far as the end of objects takes it."""

from typing import Any

import pytest
import yaml

from api import installed
from deploy.lab.paths import ROOT
from kube import guard
from kube.guard import Installation

_KINDS = {
    "Namespace": "namespaces",
    "ServiceAccount": "serviceaccounts",
    "Deployment": "deployments",
    "DaemonSet": "daemonsets",
    "Service": "services",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "Role": "roles",
    "RoleBinding": "rolebindings",
}
_OF_CONSUMERS = {"isthmus-tenant-join", "isthmus-tenant", "isthmus-managed-tenant", "isthmus-managed-consumer"}
_NETWORK = installed.network("isthmus-network", manager="isthmus")
_ALL = (installed.consumer("isthmus"), installed.peers("isthmus"), installed.tenants("isthmus"), _NETWORK)
_FOLDERS = {
    "isthmus-in-use": ("deploy/manager/consumer", "deploy/rbac/peers"),
    "isthmus-in-use-peers": ("deploy/rbac/peers",),
    "isthmus-in-use-network": ("deploy/network",),
    "isthmus-in-use-tenants": ("deploy/rbac/tenants", "deploy/rbac/managed"),
}

by_name = pytest.mark.parametrize("made", _ALL, ids=lambda made: made.name)


def documents(made: Installation) -> list[dict[str, Any]]:
    """Of what is named there, without the roles that are consumers'."""
    folders = _FOLDERS[made.name] if made is _NETWORK else ("deploy/manager/base", *_FOLDERS[made.name])
    files = [file for folder in folders for file in (ROOT / folder).glob("*.yaml")]
    if made.name == installed.IN_USE:
        files += (ROOT / "deploy/rbac").glob("consumer-*.yaml")
    found = (document for file in files for document in yaml.safe_load_all(file.read_text()))
    # The manager's Service leads to a webhook that removals do without; that of gateways carries packets.
    kinds = _KINDS.keys() - ({"Service"} if made is not _NETWORK else set())
    ours = (one for one in found if one.get("kind") in kinds)
    return [one for one in ours if one["metadata"]["name"] not in _OF_CONSUMERS]


@by_name
def test_everything_that_removals_take_is_guarded(made: Installation) -> None:
    guarded = {
        (rule["resources"][0], name)
        for rule in guard.policy(made)["spec"]["matchConstraints"]["resourceRules"]
        for name in rule["resourceNames"]
    }
    missing = {(_KINDS[one["kind"]], one["metadata"]["name"]) for one in documents(made)} - guarded
    assert not missing


@by_name
def test_only_deletions_are_refused_and_the_refusal_says_what_to_do(made: Installation) -> None:
    spec = guard.policy(made)["spec"]
    assert {tuple(rule["operations"]) for rule in spec["matchConstraints"]["resourceRules"]} == {("DELETE",)}
    message = spec["validations"][0]["message"]
    assert message.startswith("isthmus is in use")
    assert "kubectl get " in message
    assert guard.binding(made)["metadata"]["name"] in message


def test_the_manager_may_write_these_policies_and_no_others() -> None:
    named: set[str] = set()
    for file in (ROOT / "deploy").rglob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text()):
            for rule in (document or {}).get("rules", ()) if isinstance(document, dict) else ():
                if isinstance(rule, dict) and "validatingadmissionpolicies" in rule.get("resources", ()):
                    named |= set(rule.get("resourceNames", ()))
                    assert rule.get("resourceNames") or rule["verbs"] == ["create"]
    assert named == {made.name for made in _ALL}
