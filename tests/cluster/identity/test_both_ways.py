"""Two clusters that lend to each other: two peerings that know nothing of one another, by one manager on each side."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import yaml

from deploy import stack
from deploy.lab.lab import Lab
from deploy.lab.process import Unit
from tests.cluster.identity.conftest import LONG, Peering, start_manager
from tests.cluster.identity.test_life import dead, state
from tests.kubectl import Kubectl, eventually

MARKET = "market"
_RIGHTS = stack.MANAGER / "consumer/rbac.yaml"


def let_borrow(lab: Lab) -> Kubectl:
    """The rights of a consumer's manager for the provider's, with its keys in the namespace where it runs."""
    admin = Kubectl(lab.provider.plan.binaries / "kubectl", lab.provider.admin_kubeconfig, "isthmus")
    admin.run("apply", "--server-side", "-k", str(stack.RBAC / "peers"))
    (role,) = (one for one in yaml.safe_load_all(_RIGHTS.read_text()) if one["kind"] == "Role")
    admin.apply({**role, "metadata": {"name": MARKET, "namespace": "isthmus"}})
    admin.run("create", "rolebinding", MARKET, f"--role={MARKET}", f"--user={stack.MANAGER_USER}")
    return admin


@pytest.fixture
def trader(lab: Lab, lender: Unit) -> Iterator[Unit]:
    """The provider's manager in the lender's place, which lets its cluster be a consumer as well."""
    admin = let_borrow(lab)
    lender.stop()
    options = (f"--consumer-id={MARKET}", f"--advertise-server={lab.provider.url}")
    unit = start_manager(lab, lab.provider, "trader", "peers", "tenants", "provider", options=options)
    yield unit
    unit.check_alive()
    unit.stop()
    admin.run("delete", "clusterrolebinding", "isthmus-peers")
    for kind in ("rolebinding", "role"):
        admin.run("delete", kind, MARKET)
    lender.start()


@pytest.fixture
def back(peering: Peering, trader: Unit) -> Iterator[Peering]:
    """The other way: the provider's administrator asks, the consumer's answers."""
    made = replace(
        peering, consumer=peering.provider, provider=peering.consumer, name=f"south-{MARKET}", consumer_id=MARKET
    )
    yield made
    made.consumer.run("delete", "identity", "--all", "--timeout=60s", timeout=90)
    made.provider.run("delete", "tenant", "--all", "--timeout=90s", timeout=LONG)


def has_rights(credential: Kubectl) -> None:
    eventually(lambda: credential.run("get", "namespacemaps") is not None, what="rights", timeout=LONG)


def test_two_clusters_lend_to_each_other_and_one_may_stop(peering: Peering, back: Peering) -> None:
    peering.exchange()
    back.exchange()
    there, here = peering.credential("there"), back.credential("here")
    for credential, who in ((there, "isthmus:shop:"), (here, f"isthmus:{MARKET}:")):
        has_rights(credential)
        assert who in credential.run("auth", "whoami")
    state(peering, "Drained")
    eventually(lambda: dead(there), what="a drained tenant to have no rights", timeout=LONG)
    assert here.run("get", "namespacemaps") is not None
    assert back.ready()
