"""A peering that broke on one side is put right there; a provider that moved, or is gone for ever."""

import json

import yaml

from deploy.lab.lab import Lab
from tests.cluster.identity.conftest import LONG, Peering, condition
from tests.cluster.identity.test_life import dead

GONE = "https://127.0.0.1:9"  # in the manager's own network namespace, where nothing listens
FORCE = "authentication.isthmus.dev/force-removal=true"


def test_a_provider_that_moved_is_followed_by_one_edit(lab: Lab, peering: Peering) -> None:
    """Its API server has another name: kubeconfigs follow, with the credential that is there."""
    peering.exchange()
    user = peering.ready()["status"]["user"]
    moved = lab.provider.url.replace(lab.provider.plan.site.ip, lab.provider.plan.kubernetes_ip)
    assert moved != lab.provider.url
    patch = json.dumps({"spec": {"server": moved}})
    peering.consumer.run("patch", "identity", peering.name, "--type=merge", "-p", patch)

    def followed(secret: dict[str, dict[str, str]]) -> bool:
        del secret
        return moved.encode() in peering.credential().kubeconfig.read_bytes()

    peering.consumer.wait_for("secret", f"provider-{peering.name}", followed, what="the new address", timeout=LONG)
    back = json.dumps({"spec": {"server": lab.provider.url}})
    peering.consumer.run("patch", "identity", peering.name, "--type=merge", "-p", back)
    assert peering.ready()["status"]["user"] == user


def test_an_identity_whose_provider_is_gone_for_ever_is_removed(peering: Peering) -> None:
    """With a slice: what it left there cannot be removed, and by an annotation nobody waits for that."""
    peering.exchange()
    slices = {"apiVersion": "authentication.isthmus.dev/v1alpha1", "kind": "ResourceSlice"}
    spec = {"identity": peering.name, "resources": {"cpu": "1", "memory": "1Gi", "pods": "1"}}
    peering.consumer.create({**slices, "metadata": {"name": "left"}, "spec": spec})
    mirrored = lambda it: condition(it, "Mirrored")["status"] == "True"  # noqa: E731
    peering.consumer.wait_for("slice", "left", mirrored, what="the slice at the provider", timeout=LONG)
    gone = json.dumps({"spec": {"server": GONE}})
    peering.consumer.run("patch", "identity", peering.name, "--type=merge", "-p", gone)
    peering.consumer.wait_for(
        "identity", peering.name, lambda it: condition(it)["reason"] == "Unreachable", timeout=LONG
    )
    peering.consumer.run("delete", "slice", "left", "--wait=false")
    peering.consumer.wait_for(
        "slice", "left", lambda it: "force-removal=true" in json.dumps(it["status"]["conditions"]), timeout=LONG
    )
    peering.consumer.run("annotate", "slice", "left", FORCE)
    peering.consumer.wait_gone("slice", "left", timeout=LONG)
    peering.consumer.run("delete", "identity", peering.name, timeout=LONG)
    assert not peering.consumer.exists("secret", f"provider-{peering.name}")


def test_an_identity_that_was_deleted_comes_back_with_one_apply_at_the_provider(peering: Peering) -> None:
    """Its key went with it, so the provider's administrator has to let in the new one, and the old one is void."""
    answer = peering.answer(peering.ask())
    first = peering.enter(answer)["status"]["user"]
    old = peering.credential("old")
    peering.consumer.run("delete", "identity", peering.name, timeout=LONG)
    peering.consumer.run("apply", "-f", "-", stdin=answer)
    found = peering.consumer.wait_for(
        "identity", peering.name, lambda it: condition(it)["reason"] == "KeyMismatch", timeout=LONG
    )
    assert "status.tenant" in condition(found)["message"]
    tenant = found["status"]["tenant"]
    peering.provider.run("apply", "-f", "-", stdin=tenant)
    key = yaml.safe_load(tenant)["spec"]["publicKey"]
    let_in = peering.provider.wait_for(
        "tenant",
        "shop",
        lambda it: it["spec"]["publicKey"] == key and it["status"]["identity"] not in ("", answer),
        what="the new key to be let in",
        timeout=LONG,
    )
    second = peering.enter(let_in["status"]["identity"])["status"]["user"]
    assert second != first
    assert dead(old)
