"""A peering that broke on one side is put right there; a provider that moved, or is gone for ever."""

import json

import yaml

from deploy.lab.lab import Lab
from tests.cluster.identity.conftest import LONG, Json, Peering, condition, identity
from tests.cluster.identity.test_life import dead

GONE = "https://127.0.0.1:9"  # in the manager's own network namespace, where nothing listens
KEPT_UNTIL = "authentication.isthmus.dev/kept-until"
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
    peering.consumer.delete("slice", "left", "--wait=false")
    peering.consumer.wait_for(
        "slice", "left", lambda it: "force-removal=true" in json.dumps(it["status"]["conditions"]), timeout=LONG
    )
    peering.consumer.run("annotate", "slice", "left", FORCE)
    peering.consumer.wait_gone("slice", "left", timeout=LONG)
    peering.consumer.delete("identity", peering.name, timeout=LONG)
    assert not peering.consumer.exists("secret", f"provider-{peering.name}")


def _key(peering: Peering) -> Json:
    return peering.consumer.get("secret", f"identity-{peering.name}")


def test_an_identity_that_is_deleted_and_applied_again_is_let_in_as_before(peering: Peering) -> None:
    """Nobody at the provider has to do anything: the key waits for an Identity of its name."""
    answer = peering.answer(peering.ask())
    first = peering.enter(answer)
    peering.consumer.delete("identity", peering.name, timeout=LONG)
    assert not peering.consumer.exists("secret", f"provider-{peering.name}")
    assert KEPT_UNTIL in _key(peering)["metadata"]["annotations"]
    second = peering.enter(answer)
    assert second["status"]["user"] == first["status"]["user"]
    assert second["status"]["key"] == first["status"]["key"]
    assert peering.credential().run("auth", "whoami")
    assert KEPT_UNTIL not in _key(peering)["metadata"].get("annotations", {})


def test_the_key_of_a_deleted_identity_goes_when_its_time_is_over(peering: Peering) -> None:
    peering.enter(peering.answer(peering.ask()))
    peering.consumer.delete("identity", peering.name, timeout=LONG)
    over = f"{KEPT_UNTIL}=2020-01-01T00:00:00Z"
    peering.consumer.run("annotate", "--overwrite", "secret", f"identity-{peering.name}", over)
    peering.consumer.create(identity("another"))
    peering.consumer.run("annotate", "identity", "another", FORCE)
    peering.consumer.delete("identity", "another", timeout=LONG)  # which has the manager look
    peering.consumer.wait_gone("secret", f"identity-{peering.name}", timeout=LONG)
    assert not peering.consumer.exists("secret", "identity-another"), "by the annotation it goes at once"


def test_an_identity_whose_key_is_lost_comes_back_with_one_apply_at_the_provider(peering: Peering) -> None:
    """The provider's administrator has to let in the new one, and the old one is void."""
    answer = peering.answer(peering.ask())
    first = peering.enter(answer)["status"]["user"]
    old = peering.credential("old")
    peering.consumer.delete("identity", peering.name, timeout=LONG)
    peering.consumer.delete("secret", f"identity-{peering.name}")
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
