"""The firewall's table, as rendered."""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netfabric._pb import fabric_pb2 as pb
from netfabric.agent import firewall, nft, reading
from netfabric.agent.model import overlap, within
from tests.unit.netfabric.agent.states import gateway, second_peer


def rules(objects: list[dict[str, Any]], chain: str) -> list[Any]:
    return [item["rule"]["expr"] for item in objects if "rule" in item and item["rule"]["chain"] == chain]


def members(objects: list[dict[str, Any]], name: str) -> list[str]:
    (found,) = (item["set"].get("elem", []) for item in objects if "set" in item and item["set"]["name"] == name)
    return [e if isinstance(e, str) else f"{e['prefix']['addr']}/{e['prefix']['len']}" for e in found]


def test_prefixes_are_remapped_towards_and_from_the_peer() -> None:
    objects = firewall.render(reading.read(gateway()))
    assert "10.71.0.0" in json.dumps(rules(objects, "dnat")[0])
    assert rules(objects, "back_7")[0][0]["snat"]["addr"]["map"]["data"]["set"] == [
        [{"prefix": {"addr": "10.244.0.0", "len": 16}}, {"prefix": {"addr": "10.71.0.0", "len": 16}}]
    ]


def test_what_is_not_remapped_is_not_translated() -> None:
    state = gateway()
    state.peers[0].prefixes[0].CopyFrom(pb.PrefixMap(real="10.50.0.0/16", seen="10.50.0.0/16"))
    del state.peers[0].prefixes[1]
    objects = firewall.render(reading.read(state))
    assert rules(objects, "dnat") == []
    assert rules(objects, "back_7") == []
    assert len(rules(objects, "mark")) == 4, "by where it comes from, by address, and by flow"


def test_a40_the_source_is_judged_before_anything_may_pass() -> None:
    objects = firewall.render(reading.read(gateway()))
    chain = rules(objects, "from_7")
    first_accept = next(n for n, expr in enumerate(chain) if {"accept": None} in expr and "related" not in str(expr))
    spoofed = [n for n, expr in enumerate(chain) if {"counter": "spoofed_7"} in expr]
    assert len(spoofed) == 2
    assert max(spoofed) < first_accept
    assert chain[-1] == [{"counter": "policy_7"}, {"drop": None}]


def test_a_peer_does_not_reach_the_gateways_own_addresses_whatever_the_policy() -> None:
    chain = rules(firewall.render(reading.read(gateway())), "from_7")
    refused = next(n for n, expr in enumerate(chain) if "'fib'" in str(expr) and {"drop": None} in expr)
    allowed = [n for n, expr in enumerate(chain) if {"accept": None} in expr and "@reachable" in str(expr)]
    assert refused < min(allowed)


def test_nothing_is_allowed_unless_the_policy_says_so() -> None:
    state = gateway()
    state.peers[0].ClearField("policy")
    objects = firewall.render(reading.read(state))
    for name in ("reachable_7_4", "reachable_7_6", "openers_7_4", "openers_7_6"):
        assert members(objects, name) == []
    (chain,) = (item["chain"] for item in objects if "chain" in item and item["chain"]["name"] == "forward")
    assert chain["policy"] == "drop"


def test_peers_with_the_same_addresses_are_kept_apart_by_zone() -> None:
    state = gateway()
    assert rules(firewall.render(reading.read(state)), "raw") == []
    second_peer(state)
    raw = json.dumps(rules(firewall.render(reading.read(state)), "raw"))
    assert '["wg-b", 7]' in raw
    assert '["wg-c", 8]' in raw


def test_rules_that_a_packet_meets_do_not_grow_with_peers_and_addresses() -> None:
    small = firewall.render(reading.read(gateway()))
    state = gateway()
    for number in range(200):
        state.exports.add(shown=f"10.244.200.{number}/32", target=f"192.0.2.{number}/32")
        state.peers[0].policy.reachable.append(f"10.{number % 40 + 100}.{number}.0/24")
    for number in range(100):
        link = state.links.add(name=f"wg-{number}")
        link.wireguard.private_key.file = "/key"
        state.peers.add(
            name=f"p{number}",
            number=number + 100,
            links=[link.name],
            prefixes=[pb.PrefixMap(real=f"172.{number}.0.0/24", seen=f"172.{number}.0.0/24")],
        )
    large = firewall.render(reading.read(state))
    for chain in ("mark", "dnat", "forward", "snat", "clamp", "from_7", "to_7"):
        assert len(rules(large, chain)) <= len(rules(small, chain)) + 1, chain


def test_a_node_keeps_sources_and_knows_its_tunnels_ends() -> None:
    state = gateway()
    state.role = pb.ROLE_NODE
    for field in ("peers", "routes"):
        state.ClearField(field)
    del state.links[0]
    state.keep_sources.append("10.244.0.0/16")
    objects = firewall.render(reading.read(state))
    assert members(objects, "underlay4") == ["10.9.0.2"]
    assert not any("chain" in item and item["chain"]["name"] in ("forward", "dnat") for item in objects)
    assert "10.244.0.0" in json.dumps(rules(objects, "keep")[0])
    own = rules(objects, "keep")[-1]
    assert "fib" in json.dumps(own[1]), "packets of others that pass through are theirs"
    assert own[-1]["snat"]["addr"]["map"]["data"]["set"] == [["10.9.0.2", "10.9.0.1"]]


def test_what_the_gateway_itself_sends_is_not_masqueraded() -> None:
    """A probe from another address than the tunnel's end would not be answered."""
    state = gateway()
    state.masquerades.add(link="wg-b", keep=["10.244.0.0/16"], address="10.250.0.1")
    objects = firewall.render(reading.read(state))
    (rule,) = (rule for rule in rules(objects, "snat") if "10.250.0.1" in json.dumps(rule))
    own = {"match": {"op": "!=", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "@own4"}}
    assert own in rule
    assert "169.254.18.1" in json.dumps([item for item in objects if item.get("set", {}).get("name") == "own4"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 255), st.integers(8, 16)), max_size=12))
def test_collapsed_prefixes_cover_the_same_and_never_overlap(numbers: list[tuple[int, int]]) -> None:
    networks = [IPv4Network((n << 16, length), strict=False) for n, length in numbers]
    found = nft.collapse(networks)
    for index, one in enumerate(found):
        assert not any(overlap(one, other) for other in found[index + 1 :])
    assert all(any(within(network, one) for one in found) for network in networks)
    assert set(found) <= set(networks)


def probed() -> pb.DesiredState:
    """A gateway whose peer may ask, and is asked."""
    state = gateway()
    state.links[1].neighbours.append("169.254.20.2")
    state.probe_answers.add(shown="10.244.0.0", target="169.254.20.2")
    state.peers[0].policy.CopyFrom(pb.Policy(probed=["10.244.0.0"], askers=["10.244.0.0/16"]))
    return state


def test_probes_pass_to_who_answers_them_and_nothing_else_does() -> None:
    objects = firewall.render(reading.read(probed()))
    handed_on = rules(objects, "dnat")[0]
    assert handed_on[0] == nft.from_peers()
    assert handed_on[1] == nft.udp(7300)
    assert handed_on[2]["dnat"]["addr"]["map"]["data"]["set"] == [["10.244.0.0", "169.254.20.2"]]
    (let_in,) = (expr for expr in rules(objects, "from_7") if "169.254.20.2" in str(expr))
    assert nft.udp(7300) in let_in
    assert "dnat" in str(let_in), "only what was asked at the shown address"
    (let_out,) = (expr for expr in rules(objects, "to_7") if "probed_7_4" in str(expr))
    assert let_out[:3] == [nft.saddr(4, "askers_7_"), nft.daddr(4, "probed_7_"), nft.udp(7300)]
    assert members(objects, "probed_7_4") == ["10.244.0.0"]
    for closed in ("reachable_7_4", "openers_7_4"):
        assert members(objects, closed) == []


def test_who_answers_is_reached_after_the_source_is_judged() -> None:
    chain = rules(firewall.render(reading.read(probed())), "from_7")
    let_in = next(n for n, expr in enumerate(chain) if "169.254.20.2" in str(expr))
    assert max(n for n, expr in enumerate(chain) if {"counter": "spoofed_7"} in expr) < let_in
