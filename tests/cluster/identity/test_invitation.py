"""Peering by invitation: the consumer applies what the provider printed, and the rest happens by itself, once."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from identity.consumer import manifest
from identity.keys import PrivateKey
from identity.requests import Party, timestamp
from tests.cluster.identity.conftest import LONG, Peering, condition, identity
from tests.cluster.identity.test_slices import SOME, resource_slice, until
from tests.kubectl import Kubectl, KubectlError

Json = dict[str, Any]


def invite(lab: Lab, peering: Peering, *options: str) -> str:
    """What the provider's administrator has printed for the consumer's."""
    command = [
        *(sys.executable, "-m", "isthmus", "peer", "invite", f"--kubeconfig={lab.provider.admin_kubeconfig}"),
        *(f"--consumer-id={peering.consumer_id}", f"--name={peering.name}", *options),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, cwd=ROOT).stdout


def by_hand(peering: Peering, *, expires: datetime) -> None:
    """The Tenant with which an invitation begins."""
    spec = {"invitation": {"expires": timestamp(expires), "identity": peering.name}}
    tenant = {"apiVersion": "authentication.isthmus.dev/v1alpha1", "kind": "Tenant", "metadata": {"name": "shop"}}
    peering.provider.apply({**tenant, "spec": spec})


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=30)


def used(peering: Peering, token: str) -> Kubectl:
    """kubectl at the provider with a bearer token."""
    config = yaml.safe_load(peering.provider.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    file = peering.folder / "bearer"
    file.write_text(json.dumps(config))
    return Kubectl(peering.provider.binary, file, "isthmus-shop")


def test_an_invitation_is_applied_and_the_rest_happens_by_itself_once(lab: Lab, peering: Peering) -> None:
    text = invite(lab, peering, "--resource=cpu=4", "--slice-class=manual")
    secret, _ = yaml.safe_load_all(text)
    for _ in range(2):
        found = peering.enter(text)
    tenant = peering.tenant("Active")
    assert tenant["status"]["user"] == found["status"]["user"]
    assert tenant["spec"]["resources"] == {"cpu": "4"}
    peering.consumer.apply(resource_slice("asked", peering, **{"class": "manual"}, resources=SOME))
    until(peering, "asked", "AwaitingDecision")

    there = replace(peering.provider, namespace="isthmus-shop")
    peering.provider.wait_for("tenant", "shop", lambda it: "invited" not in it["status"], timeout=LONG)
    assert [it["metadata"]["name"] for it in there.list("serviceaccounts")] in (["default"], [])
    with pytest.raises(KubectlError, match=r"orbidden|nauthorized|must be logged in"):
        used(peering, secret["stringData"]["token"]).run("get", "configmap", "isthmus-tenant")
    assert peering.ready()["status"]["user"] == found["status"]["user"]


def test_a37_the_token_of_an_invitation_can_ask_and_nothing_else(peering: Peering) -> None:
    by_hand(peering, expires=soon())
    account = peering.tenant("Invited")["status"]["invited"]
    there = replace(peering.provider, namespace="isthmus-shop")
    held = used(peering, there.run("create", "token", account, "--duration=10m").strip())
    assert held.run("auth", "can-i", "create", "credentialrequests").strip() == "yes"
    for what in (
        ("list", "credentialrequests"),
        ("patch", "credentialrequests"),
        ("create", "namespacemaps"),
        ("create", "resourceslices.authentication.isthmus.dev"),
        ("get", "secrets"),
        ("get", "tenants"),
        ("create", "serviceaccounts", "--subresource=token"),
    ):
        assert held.result("auth", "can-i", *what).stdout.decode().strip() == "no", what


def test_a37_an_invitation_is_over_with_its_time(peering: Peering) -> None:
    by_hand(peering, expires=soon())
    account = peering.tenant("Invited")["status"]["invited"]
    there = replace(peering.provider, namespace="isthmus-shop")
    token = there.run("create", "token", account, "--duration=1h").strip()
    assert used(peering, token).run("auth", "can-i", "create", "credentialrequests").strip() == "yes"
    answer = yaml.safe_load(peering.answered())
    by_hand(peering, expires=datetime.now(UTC) - timedelta(minutes=1))
    peering.tenant("InvitationExpired")
    name = f"invitation-{peering.name}"
    peering.consumer.run("create", "secret", "generic", name, f"--from-literal=token={token}")
    peering.consumer.apply(identity(peering.name, **answer["spec"]))
    found = peering.consumer.wait_for(
        "identity", peering.name, lambda it: condition(it)["reason"] == "InvitationVoid", timeout=LONG
    )
    assert "ask the provider for another" in condition(found)["message"]
    peering.consumer.delete("secret", name)
    assert "request" not in peering.provider.get("tenant", "shop")["spec"]


def test_a37_who_comes_second_is_told_that_the_invitation_was_used(peering: Peering) -> None:
    by_hand(peering, expires=soon())
    peering.tenant("Invited")
    there = replace(peering.provider, namespace="isthmus-shop")
    party = Party(consumer_id="shop", cluster_id="11111111-2222-3333-4444-555555555555")

    def ask(name: str, **change: Any) -> str:
        made = manifest.tenant(PrivateKey.generate(), party, identity=peering.name, now=datetime.now(UTC))
        spec = {**yaml.safe_load(made)["spec"], **change}
        kind = {"apiVersion": "authentication.isthmus.dev/v1alpha1", "kind": "CredentialRequest"}
        there.apply({**kind, "metadata": {"name": name}, "spec": {"peering": spec}})
        found = there.wait_for(
            "credentialrequest",
            name,
            lambda it: condition(it, "Issued")["reason"] != "SignerPending",
            timeout=LONG,
        )
        return str(condition(found, "Issued")["reason"])

    assert ask("forged", clusterID="00000000-2222-3333-4444-555555555555") == "BadSignature"
    assert ask("first") == "Issued"
    assert ask("second") == "InvitationUsed"
    assert peering.provider.get("tenant", "shop")["spec"]["clusterID"] == party.cluster_id
