"""What `isthmus fabric-agent status` prints."""

from __future__ import annotations

from netfabric._pb import fabric_pb2 as pb
from netfabric.agent import statustext
from netfabric.agent.reporting import timestamp

NOW = 1_700_000_000.0


def healthy() -> pb.AgentState:
    return pb.AgentState(
        contract=1,
        agent="gw-1",
        role=pb.ROLE_GATEWAY,
        applied=pb.AppliedState(term=3, generation=12),
        links=[
            pb.LinkState(
                name="wg-east",
                technology="wireguard (kernel)",
                up=True,
                mtu=1420,
                received_bytes=1_234_567,
                wireguard_peers=[
                    pb.WireGuardPeerState(
                        public_key=bytes(32), endpoint="192.0.2.1:51820", last_handshake=timestamp(NOW - 41)
                    )
                ],
            )
        ],
        probes=[pb.ProbeState(name="east", passing=True, since=timestamp(NOW - 60), path_mtu=1420)],
        counters=[pb.Counter(name="dropped-spoofed", peer="east", packets=4), pb.Counter(name="dropped-policy")],
        at=timestamp(NOW),
    )


def test_a_healthy_agent() -> None:
    text, well = statustext.render(healthy())
    assert well
    for words in ("generation 12 of term 3", "wg-east", "1.2 MB", "handshake 41 s ago", "passes", "mtu 1420"):
        assert words in text
    assert "dropped     spoofed         4 packets from east" in text
    assert "policy" not in text, "what counts nothing is not told"


def test_what_is_amiss_is_told_and_seen_in_the_exit_code() -> None:
    nothing = pb.AgentState(agent="gw-1")
    assert statustext.render(nothing)[1] is False
    assert "nothing yet" in statustext.render(nothing)[0]
    down, broken, problem, silent = healthy(), healthy(), healthy(), healthy()
    down.links[0].up = False
    broken.probes[0].passing = False
    problem.applied.problems.add(object="firewall", reason="FirewallRefused", message="nft: no")
    silent.links[0].wireguard_peers[0].last_handshake.seconds -= 600
    for state, words in ((down, "DOWN"), (broken, "BROKEN"), (problem, "FirewallRefused: nft: no")):
        text, well = statustext.render(state)
        assert not well
        assert words in text
    assert "SILENT" in statustext.render(silent)[0]
    silent.links[0].wireguard_peers[0].ClearField("last_handshake")
    assert "NEVER" in statustext.render(silent)[0]


def test_a_path_that_loses_what_is_large_is_amiss() -> None:
    state = healthy()
    state.probes[0].full_size_lost = True
    text, well = statustext.render(state)
    assert "SMALL PACKETS ONLY" in text
    assert not well
