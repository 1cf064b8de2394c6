"""What is desired of the kernel, and the steps to it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_interface, ip_network

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netfabric.agent import diff, kernel, reading
from netfabric.agent.diff import AddressStep, Do, LinkStep, RouteStep, RuleStep
from netfabric.agent.kernel import Abilities, KernelLink, KernelRoute, KernelRule, KernelState
from netfabric.agent.model import WireGuardKind
from tests.unit.netfabric.agent.states import gateway

HERE = Abilities(wireguard=WireGuardKind.USERSPACE, geneve=False, vxlan=True)
NAMES = ("a", "b", "c")
links = st.builds(
    KernelLink,
    name=st.just(""),
    kind=st.sampled_from(["vxlan", "wireguard"]),
    mtu=st.sampled_from([1280, 1400]),
    vni=st.sampled_from([1, 2]),
)
places = st.fixed_dictionaries({name: st.one_of(st.none(), st.just("foreign"), links) for name in NAMES})
addresses = st.frozensets(
    st.tuples(st.sampled_from(NAMES), st.sampled_from([ip_interface("10.1.0.1/24"), ip_interface("fd01::1/64")])),
    max_size=4,
)
routes = st.frozensets(
    st.builds(
        KernelRoute,
        prefix=st.sampled_from([ip_network("10.2.0.0/16"), ip_network("fd02::/64")]),
        link=st.sampled_from(["", *NAMES]),
        table=st.sampled_from([254, 9]),
    ),
    max_size=4,
)
rules = st.frozensets(st.builds(KernelRule, version=st.sampled_from([4, 6]), mark=st.integers(1, 3)), max_size=3)


@st.composite
def states(draw: st.DrawFn) -> KernelState:
    """States without contradictions: what hangs on an interface needs one."""
    drawn = draw(places)
    made = {name: replace(link, name=name) for name, link in drawn.items() if isinstance(link, KernelLink)}
    kept = (route for route in draw(routes) if not route.link or route.link in made)
    return KernelState(
        links=made,
        addresses=frozenset(entry for entry in draw(addresses) if entry[0] in made),
        routes=frozenset({route.key: route for route in kept}.values()),
        rules=draw(rules),
        foreign=frozenset(name for name, link in drawn.items() if link == "foreign"),
    )


class Machine:
    """A kernel that does what it is told, and nothing that Linux would refuse."""

    def __init__(self, state: KernelState) -> None:
        self.links = dict(state.links)
        self.addresses = set(state.addresses)
        self.routes = {route.key: route for route in state.routes}
        self.rules = set(state.rules)
        self.foreign = state.foreign

    def state(self) -> KernelState:
        return KernelState(
            links=self.links,
            addresses=frozenset(self.addresses),
            routes=frozenset(self.routes.values()),
            rules=frozenset(self.rules),
            foreign=self.foreign,
        )

    def do(self, step: diff.Step) -> None:
        if isinstance(step, LinkStep):
            self._link(step)
        elif isinstance(step, AddressStep):
            entry = (step.link, step.address)
            assert (entry in self.addresses) is (step.do is Do.DELETE)
            assert step.link in self.links or step.link in self.foreign
            self.addresses ^= {entry}
        elif isinstance(step, RouteStep):
            key = step.route.key
            assert (key in self.routes) is (step.do is not Do.ADD)
            assert not step.route.link or step.do is Do.DELETE or step.route.link in self.links.keys() | self.foreign
            if step.do is Do.DELETE:
                del self.routes[key]
            else:
                self.routes[key] = step.route
        else:
            assert isinstance(step, RuleStep)
            assert (step.rule in self.rules) is (step.do is Do.DELETE)
            self.rules ^= {step.rule}

    def _link(self, step: LinkStep) -> None:
        name = step.link.name
        assert name not in self.foreign, "an interface of somebody else"
        assert (name in self.links) is (step.do is not Do.ADD)
        if step.do is Do.CHANGE:
            assert self.links[name].fixed == step.link.fixed
        if step.do is Do.DELETE:
            del self.links[name]
            self.addresses = {entry for entry in self.addresses if entry[0] != name}
            self.routes = {key: route for key, route in self.routes.items() if route.link != name}
        else:
            self.links[name] = step.link


# Drawing two states takes its time on a busy machine.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)


@patient
@given(states(), states())
def test_the_steps_lead_to_what_is_wanted_and_then_there_are_none(present: KernelState, wanted: KernelState) -> None:
    machine = Machine(present)
    wanted = replace(wanted, foreign=frozenset())
    steps, problems = diff.difference(present, wanted)
    for step in steps:
        machine.do(step)
    again, same = diff.difference(machine.state(), wanted)
    assert not again
    assert same == problems
    blocked = wanted.links.keys() & present.foreign
    assert {problem.object for problem in problems} == {f"links[{name}]" for name in blocked}
    assert machine.links == {name: link for name, link in wanted.links.items() if name not in blocked}
    assert machine.rules == set(wanted.rules)


@patient
@given(states())
def test_a_healthy_kernel_is_left_alone(state: KernelState) -> None:
    assert diff.difference(state, replace(state, foreign=frozenset()))[0] == []


def test_a_route_that_changes_is_replaced_in_one_step() -> None:
    old = KernelRoute(prefix=ip_network("10.2.0.0/16"), link="a")
    links = {name: KernelLink(name=name, kind="vxlan", mtu=1400) for name in ("a", "b")}
    new = replace(old, link="b")
    steps, _ = diff.difference(
        KernelState(links=links, routes=frozenset([old])), KernelState(links=links, routes=frozenset([new]))
    )
    assert steps == [RouteStep(Do.CHANGE, new)]


def test_a_gateway_sends_marked_packets_to_the_peer_or_nowhere() -> None:
    desired = reading.read(gateway())
    wanted = kernel.wanted(desired, abilities=HERE, outer_mtus={"wg-b": 1280})
    assert {(route.link, route.metric) for route in wanted.routes if route.table == 7_300_007} == {
        ("wg-b", 0),
        ("wg-b", 1024),
        ("", 2**31),
    }
    inside = KernelRule(version=4, mark=kernel.INSIDE)
    own = {KernelRule(version=version, mark=kernel.OWN) for version in (4, 6)}
    assert wanted.rules == {KernelRule(version=4, mark=7), KernelRule(version=6, mark=7), inside, *own}
    assert (wanted.links["wg-b"].kind, wanted.links["wg-b"].mtu) == ("tun", 1280)
    assert (wanted.links["un-1"].kind, wanted.links["un-1"].mtu) == ("vxlan", 1450)


def test_what_comes_from_a_peer_goes_to_nodes_by_links_whatever_ways_a_cni_has() -> None:
    """A gateway beside the pods of its own node has a way straight to them, which comes first in the main table."""
    wanted = kernel.wanted(reading.read(gateway()), abilities=HERE, outer_mtus={})
    found = {(route.table, route.metric) for route in wanted.routes if str(route.prefix) == "10.244.1.0/24"}
    assert found == {(kernel.TABLE_BASE + kernel.INSIDE, 0), (kernel.MAIN_TABLE, 7300)}


def test_a_gateways_own_address_may_be_that_of_a_peers_pod() -> None:
    """What is marked for a peer goes there before it is looked at whether it is for the gateway itself."""
    own, marked = KernelRule(version=4, mark=kernel.OWN), KernelRule(version=4, mark=7)
    assert own.priority > marked.priority
    assert own.table == kernel.LOCAL_TABLE
    found = kernel.sysctls(reading.read(gateway()))
    assert {path for path in found if path.endswith("accept_local")} == {"ipv4/conf/wg-b/accept_local"}


def test_a_standby_gateway_has_everything_but_tunnels() -> None:
    desired = replace(reading.read(gateway()), standby=True)
    wanted = kernel.wanted(desired, abilities=HERE, outer_mtus={})
    assert set(wanted.links) == {"un-1"}
    assert {route.link for route in wanted.routes if route.table == 7_300_007} == {""}


def test_gateways_that_take_over_have_the_same_ethernet_address() -> None:
    one = reading.read(gateway()).links[1]
    assert kernel.mac(one) == kernel.mac(replace(one, name="other"))
    assert int(kernel.mac(one)[:2], 16) & 3 == 2


def test_a_node_of_one_family_keeps_its_settings_of_the_other() -> None:
    """One that forwards IPv6 takes no default route from its router any more."""
    desired = reading.read(gateway())
    assert kernel.sysctls(desired)["ipv6/conf/all/forwarding"] == "1"
    local = tuple(one for one in desired.local_prefixes if one.version == 4)
    assert "ipv6/conf/all/forwarding" not in kernel.sysctls(replace(desired, local_prefixes=local))


def test_a_rule_of_somebody_elses_matters_only_where_marks_should_come_first() -> None:
    wanted = kernel.wanted(reading.read(gateway()), abilities=HERE, outer_mtus={})
    there = replace(wanted, foreign_first={4: 0})
    steps, (problem,) = diff.difference(there, wanted)
    assert (steps, problem.object, problem.reason) == ([], "rules[0]", "Conflict")
    assert "ip -4 rule del pref 0" in problem.message
    assert not diff.difference(KernelState(foreign_first={4: 0, 6: 0}), KernelState())[1]
