"""Endpoints that live elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflection.kinds import endpointslice
from tests.unit.reflection.kinds.contexts import Json, context, copy, document

NODES = frozenset({"v1", "v2"})


class Shifted:
    """Addresses of 10.0.0.0/8 are 11.0.0.0/8 over there, and 192.168 can't be reached."""

    def address(self, address: str) -> str | None:
        return None if address.startswith("192.168.") else address.replace("10.", "11.", 1)

    def network(self, cidr: str) -> str | None:
        return cidr


ENDPOINTS = st.lists(
    st.fixed_dictionaries(
        {"addresses": st.lists(st.ip_addresses(v=4, network="10.0.0.0/8").map(str), min_size=1, max_size=1)},
        optional={
            "nodeName": st.sampled_from(["v1", "v2", "worker"]),
            "conditions": st.fixed_dictionaries(
                {}, optional={key: st.booleans() for key in ("ready", "serving", "terminating")}
            ),
            "hostname": st.just("db-0"),
            "zone": st.just("a"),
            "targetRef": st.just({"kind": "Pod", "name": "x"}),
            "hints": st.just({"forZones": [{"name": "a"}]}),
        },
    ),
    max_size=20,
)


def slice_of(endpoints: list[Json], family: str = "IPv4") -> Json:
    labels = {
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "service.kubernetes.io/headless": "",
    }
    return document("web-abc", labels=labels, addressType=family, endpoints=endpoints, ports=[{"port": 80}])


@given(endpoints=ENDPOINTS)
def test_exactly_those_elsewhere_with_all_that_means_something_there(endpoints: list[Json]) -> None:
    forged = endpointslice.forge(slice_of(endpoints), context(nodes=NODES))
    elsewhere = [endpoint for endpoint in endpoints if endpoint.get("nodeName") not in NODES]
    if not elsewhere:
        assert forged is None
        return
    made = copy(forged).parts["endpoints"]
    assert [e["addresses"] for e in made] == [e["addresses"] for e in elsewhere]
    for mine, theirs in zip(made, elsewhere, strict=True):
        assert mine.keys() <= {"addresses", "conditions", "hostname", "zone"}
        assert all(mine.get(key) == theirs.get(key) for key in ("conditions", "hostname", "zone"))


def test_addresses_are_translated_and_unreachable_ones_left_out() -> None:
    endpoints = [{"addresses": ["10.1.2.3"]}, {"addresses": ["192.168.0.1"]}]
    made = copy(endpointslice.forge(slice_of(endpoints), context(translation=Shifted())))
    assert made.parts["endpoints"] == [{"addresses": ["11.1.2.3"]}]


def test_the_providers_controllers_leave_it_alone() -> None:
    labels = copy(endpointslice.forge(slice_of([{"addresses": ["10.0.0.1"]}]), context())).labels
    assert labels == {
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "isthmus.dev",
        "service.kubernetes.io/headless": "",
    }


def test_dual_stack_is_two_slices_each_of_its_family() -> None:
    for family, address in (("IPv4", "10.0.0.1"), ("IPv6", "2001:db8::1")):
        made = copy(endpointslice.forge(slice_of([{"addresses": [address]}], family), context()))
        assert (made.parts["addressType"], made.parts["endpoints"]) == (family, [{"addresses": [address]}])
    assert endpointslice.recreate({"addressType": "IPv6"}, {"addressType": "IPv4"})


SPECIAL = [
    *("127.0.0.1", "127.8.9.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "::1", "fe80::1", "::", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "", "nonsense"),
]


@pytest.mark.parametrize("address", SPECIAL)
def test_a23_addresses_of_the_machine_itself_never_travel(address: str) -> None:
    """Not even if the translation yields them."""

    class Hostile(Shifted):
        def address(self, _address: str) -> str | None:
            return address

    endpoints = [{"addresses": ["10.1.2.3"]}]
    assert endpointslice.forge(slice_of(endpoints), context(translation=Hostile())) is None
    assert endpointslice.forge(slice_of([{"addresses": [address]}]), context()) is None
