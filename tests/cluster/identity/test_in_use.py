"""isthmus is not taken away from under Tenants and Identities: they would hang on its finalizers for ever."""

import json
from collections.abc import Iterator

import pytest

from deploy.lab.process import Unit
from tests.cluster.identity.conftest import LONG, Peering
from tests.kubectl import Kubectl, eventually

BINDING = "validatingadmissionpolicybinding"
PEERS, TENANTS = "isthmus-in-use-peers", "isthmus-in-use-tenants"


def refusal(kubectl: Kubectl, *what: str) -> str:
    """What the API server says to a deletion; empty if it allows it."""
    done = kubectl.result("delete", *what, "--dry-run=server")
    return "" if done.returncode == 0 else done.stderr.decode()


def allowed(kubectl: Kubectl, *what: str) -> None:
    """The API server looks for policies once a second, so it may be a moment behind."""
    eventually(lambda: refusal(kubectl, *what) == "", what=f"{what} to be free", timeout=LONG)


def refused(kubectl: Kubectl, *what: str, says: str) -> None:
    eventually(lambda: says in refusal(kubectl, *what), what=f"{what} to be held", timeout=LONG)


def test_what_has_to_end_tenants_and_identities_is_held_until_they_are_gone(peering: Peering) -> None:
    here, there = peering.consumer, peering.provider
    peering.exchange()
    for what in (("namespace", "isthmus"), ("clusterrole", "isthmus-tenants"), ("role", "isthmus-manager")):
        if there.exists(*what):
            refused(there, *what, says="Tenants are left")
    refused(here, "clusterrole", "isthmus-peers", says="Identities or ResourceSlices are left")
    here.delete("identity", peering.name, timeout=LONG)
    assert not here.exists(BINDING, PEERS)
    allowed(here, "clusterrole", "isthmus-peers")
    there.delete("tenant", "shop", timeout=LONG)
    assert not there.exists(BINDING, TENANTS)
    allowed(there, "clusterrole", "isthmus-tenants")


@pytest.fixture
def lender_away(lender: Unit) -> Iterator[Unit]:
    yield lender
    lender.start()


def test_a_tenant_that_went_while_nobody_looked_holds_nothing(peering: Peering, lender_away: Unit) -> None:
    there = peering.provider
    peering.answer(peering.ask())
    assert there.exists(BINDING, TENANTS)
    lender_away.stop()
    there.delete("tenant", "shop", "--wait=false")
    there.run("patch", "tenant", "shop", "--type=merge", "-p", json.dumps({"metadata": {"finalizers": None}}))
    there.wait_gone("tenant", "shop")
    lender_away.start()
    there.wait_gone(BINDING, TENANTS, timeout=LONG)
    there.delete("namespace", "isthmus-shop", timeout=LONG)  # what nobody was left to remove
