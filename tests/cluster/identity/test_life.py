"""The life of a peering: drain, removal and re-creation, a lost key, tokens; each seen with bare credentials."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
import yaml

from tests.cluster.identity.conftest import LONG, Peering, condition, identity
from tests.kubectl import Kubectl, KubectlError, eventually

Json = dict[str, Any]

_REFUSALS = ("Forbidden", "forbidden", "Unauthorized", "unauthorized", "asked for the client to provide credentials")
"""What kubectl says to 403 and 401; the last if it was refused as early as at discovery."""


def dead(credential: Kubectl) -> bool:
    """Whether a credential has no right any more. Raises KubectlError if kubectl ended otherwise."""
    done = credential.result("get", "namespacemaps")
    said = done.stderr.decode(errors="replace")
    if done.returncode and not any(reason in said for reason in _REFUSALS):
        raise KubectlError(said)
    return done.returncode != 0


def state(peering: Peering, wanted: str) -> None:
    patch = json.dumps({"spec": {"state": wanted}})
    peering.provider.run("patch", "tenant", "shop", "--type=merge", "-p", patch)


def test_a37_a_drained_or_removed_tenants_credentials_never_live_again(peering: Peering) -> None:
    tenant = peering.ask()
    first = peering.enter(peering.answer(tenant))["status"]["user"]
    before = peering.credential("before")
    eventually(lambda: before.run("get", "namespacemaps") is not None, what="rights", timeout=LONG)
    state(peering, "Drained")
    peering.tenant("Drained")
    eventually(lambda: dead(before), what="a drained tenant to have no rights", timeout=60)
    state(peering, "Active")
    peering.tenant("Active")
    peering.look()
    second = peering.ready(user=first)["status"]["user"]
    drained = peering.credential("drained")
    eventually(lambda: drained.run("get", "namespacemaps") is not None, what="rights", timeout=LONG)
    assert dead(before)
    peering.provider.delete("tenant", "shop", "--timeout=90s", timeout=120)
    assert dead(drained)
    assert not peering.provider.exists("namespace", "isthmus-shop")
    peering.answer(tenant)  # the very same file
    peering.look()
    third = peering.ready(user=second)["status"]["user"]
    again = peering.credential("again")
    eventually(lambda: again.run("get", "namespacemaps") is not None, what="rights", timeout=LONG)
    assert dead(before)
    assert dead(drained)
    assert len({first, second, third}) == 3


def test_a_lost_key_is_replaced_by_one_apply_and_the_old_one_is_void(peering: Peering) -> None:
    old = peering.ask()
    first = peering.enter(peering.answer(old))["status"]
    stolen = peering.credential("stolen")
    peering.consumer.delete("secret", f"identity-{peering.name}")
    found = peering.consumer.wait_for(
        "identity", peering.name, lambda it: it["status"]["key"] != first["key"], what="a new key", timeout=LONG
    )
    peering.provider.run("apply", "-f", "-", stdin=found["status"]["tenant"])
    peering.provider.wait_for(
        "tenant", "shop", lambda it: it["status"]["key"] == found["status"]["key"] and it["status"]["identity"]
    )
    peering.consumer.run("apply", "-f", "-", stdin=peering.answered())
    peering.ready(user=first["user"])
    eventually(lambda: dead(stolen), what="the old credential to be void", timeout=60)
    peering.provider.run("apply", "-f", "-", stdin=old)
    refused = peering.tenant("KeyRetired")
    assert "was replaced by another one before" in condition(refused)["message"]
    assert peering.credential().run("get", "namespacemaps") is not None


def test_tokens_where_there_is_no_signer(peering: Peering) -> None:
    tenant = yaml.safe_load(peering.ask())
    tenant["spec"]["credential"] = "Token"
    answer = peering.answer(json.dumps(tenant))
    assert "sealedToken" in answer
    assert "eyJ" not in answer
    found = peering.enter(answer)
    credential = peering.credential()
    who = yaml.safe_load(credential.run("auth", "whoami", "-o", "yaml"))["status"]["userInfo"]
    assert who["username"] == found["status"]["user"]
    assert who["username"].startswith("system:serviceaccount:isthmus-shop:tenant-")
    eventually(lambda: credential.run("get", "namespacemaps") is not None, what="rights", timeout=LONG)
    there = replace(peering.provider, namespace="isthmus-shop")
    there.delete("serviceaccount", who["username"].rpartition(":")[2])
    eventually(lambda: dead(credential), what="the token to be void", timeout=60)

    def another() -> bool:
        """A token that is refused is replaced, whatever its time."""
        peering.look()
        return not dead(peering.credential("another"))

    eventually(another, what="another token", timeout=LONG, every=1)
    state(peering, "Drained")
    eventually(lambda: dead(peering.credential("another")), what="the token to be void", timeout=60)


def test_f24_a_wrong_authority_is_refused_and_the_right_one_is_taken_without_restart(peering: Peering) -> None:
    answer = yaml.safe_load(peering.answer(peering.ask()))
    right = answer["spec"]["caBundle"]
    wrong = yaml.safe_load(peering.consumer.run("get", "cm", "kube-root-ca.crt", "-o", "yaml"))["data"]["ca.crt"]
    answer["spec"]["caBundle"] = wrong
    peering.consumer.apply(answer)
    found = peering.consumer.wait_for(
        "identity", peering.name, lambda it: condition(it)["reason"] == "Unreachable", timeout=LONG
    )
    assert "certificate" in condition(found)["message"].lower()
    answer["spec"]["caBundle"] = right
    peering.consumer.apply(answer)
    peering.ready()
    answer["spec"]["caBundle"] = wrong + right
    peering.consumer.apply(answer)
    eventually(lambda: b"BEGIN" in ca(peering) and ca(peering).count(b"BEGIN") == 2, what="the bundle", timeout=LONG)


def ca(peering: Peering) -> bytes:
    secret = peering.consumer.get("secret", f"provider-{peering.name}")
    config = json.loads(base64.b64decode(secret["data"]["kubeconfig"]))
    return base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"publicKey": "nonsense"}, "BadKey"),
        ({"request": {"nonce": "0" * 32}}, "BadSignature"),
        ({"request": {"issuedAt": "2020-01-01T00:00:00Z"}}, "BadSignature"),
        ({"request": {"identity": "other"}}, "BadSignature"),
    ],
)
def test_a37_an_edited_tenant_gets_nothing(peering: Peering, change: Json, reason: str) -> None:
    tenant = yaml.safe_load(peering.ask())
    for key, value in change.items():
        tenant["spec"][key] = {**tenant["spec"][key], **value} if isinstance(value, dict) else value
    peering.provider.apply(tenant)
    assert condition(peering.tenant(reason))["status"] == "False"
    assert not peering.provider.exists("namespace", "isthmus-shop")


def test_a20_a_consumers_credential_can_do_what_its_roles_say_and_nothing_else(peering: Peering) -> None:
    peering.exchange()
    credential = peering.credential()
    eventually(lambda: credential.run("get", "namespacemaps") is not None, what="rights", timeout=LONG)
    # What API servers say of all kinds and verbs is in test_rights.py; these are tried.
    for command in (
        ("get", "secrets", "-A"),
        ("get", "nodes"),
        ("get", "crd"),
        ("get", "namespaces"),
        ("get", "tenants"),
        ("get", "namespacemaps", "-n", "isthmus"),
        ("get", "csr"),
        ("create", "token", "default"),
        ("get", "--raw", "/metrics"),
    ):
        with pytest.raises(KubectlError, match=r"orbidden"):
            credential.run(*command)


def test_a39_a_given_kubeconfig_must_be_safe(peering: Peering) -> None:
    cluster = {"server": "https://198.51.100.1:6443", "insecure-skip-tls-verify": True}
    config = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a"}}],
        "clusters": [{"name": "a", "cluster": cluster}],
    }
    name = f"own-{peering.name}"
    peering.consumer.run("create", "secret", "generic", name, f"--from-literal=kubeconfig={json.dumps(config)}")
    peering.consumer.apply(identity(name, method="Kubeconfig", secret={"name": name}))
    found = peering.consumer.wait_for("identity", name, lambda it: condition(it)["status"] == "False", timeout=LONG)
    assert "insecure-skip-tls-verify is refused" in condition(found)["message"]
    peering.consumer.delete("secret", name)
