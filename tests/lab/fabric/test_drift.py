"""Whatever somebody removes or adds behind the agent's back is put right, within seconds."""

from __future__ import annotations

import pytest

from tests.lab.fabric.places import wait
from tests.lab.fabric.world import World

DAMAGE = {
    "table": ("gateway", "nft flush table inet isthmus"),
    "no-table": ("gateway", "nft delete table inet isthmus"),
    "rule": ("gateway", "nft add rule inet isthmus from_7 accept"),
    "route": ("gateway", "ip route del table 7300007 default dev wg-east"),
    "inside-route": ("gateway", "ip route del 10.244.1.0/24"),
    "way-inside": ("gateway", "ip route flush table 7304096"),
    "lookup": ("gateway", "ip rule del pref 7300 table 7300007"),
    "own-addresses-last": ("gateway", "ip rule del pref 7301"),
    "own-addresses-first": ("gateway", "ip rule add pref 0 lookup local protocol kernel"),
    "wireguard": ("gateway", "ip link del wg-east"),
    "wireguard-peer": ("gateway", "sh -c 'wg set wg-east peer $(wg show wg-east peers) remove'"),
    "wireguard-down": ("gateway", "ip link set wg-east down"),
    "address": ("gateway", "ip address del 169.254.20.1/30 dev un-1"),
    "node-link": ("node", "ip link del un-gw"),
    "node-route": ("node", "ip route del 10.71.0.0/16"),
    "node-table": ("node", "nft delete table inet isthmus"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_drift_is_put_right(world: World, damage: str) -> None:
    role, command = DAMAGE[damage]
    agent = world.west.agents[role]
    before = agent.watch().applied.repairs
    agent.place.run(["sh", "-c", command])
    # Two seconds are what it takes; this machine may be busy with other things.
    wait(lambda: agent.watch().applied.repairs > before, what="the repair", timeout=40)
    world.await_connected(timeout=40)
    assert not agent.watch().applied.problems


@pytest.mark.parametrize("rule", ["pref 0 lookup local", "pref 100 lookup local protocol static"])
def test_a_rule_of_somebody_elses_is_told_and_left_alone(world: World, rule: str) -> None:
    """It is one that comes before marks: the kernel's own is moved behind them, and this would be removed for ever."""
    agent = world.west.gateway_agent
    before = agent.watch().applied.repairs
    agent.place.ip(f"rule add {rule}")
    try:
        (problem,) = wait(lambda: agent.watch().applied.problems, what="the word of it")
        assert (problem.object, problem.reason) == (f"rules[{rule.split()[1]}]", "Conflict")
        assert agent.watch().applied.repairs == before
    finally:
        agent.place.ip(f"rule del {rule}")
    wait(lambda: not agent.watch().applied.problems, what="all to be well again")
    assert "lookup local" in agent.place.run(["ip", "rule", "show", "pref", "7301"])
