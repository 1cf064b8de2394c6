"""Desired states to test with."""

from __future__ import annotations

from netfabric._pb import fabric_pb2 as pb

KEY = bytes((*range(31), 0x5F))
"""As WireGuard has private keys (RFC 7748, 5)."""
PUBLIC = bytes(range(1, 33))


def gateway() -> pb.DesiredState:
    """A gateway with one peer whose addresses are ours too, and one node."""
    return pb.DesiredState(
        contract=1,
        agent="gw",
        term=1,
        generation=1,
        role=pb.ROLE_GATEWAY,
        links=[
            pb.Link(
                name="wg-b",
                addresses=["169.254.18.1/30", "fd18::1/64"],
                neighbours=["169.254.18.2", "fd18::2"],
                wireguard=pb.WireGuard(
                    private_key=pb.Key(value=KEY),
                    listen_port=51820,
                    peers=[
                        pb.WireGuardPeer(
                            public_key=PUBLIC,
                            endpoint="gw.example:51820",
                            allowed_ips=["10.244.0.0/16", "fd24::/48", "169.254.18.2/32"],
                            keepalive_seconds=20,
                        )
                    ],
                ),
            ),
            pb.Link(
                name="un-1",
                addresses=["169.254.20.1/30"],
                overlay=pb.Overlay(local="10.9.0.1", remote="10.9.0.2", vni=101),
            ),
        ],
        peers=[
            pb.Peer(
                name="b",
                number=7,
                links=["wg-b"],
                prefixes=[
                    pb.PrefixMap(real="10.244.0.0/16", seen="10.71.0.0/16"),
                    pb.PrefixMap(real="fd24::/48", seen="fd71::/48"),
                ],
                policy=pb.Policy(reachable=["10.244.0.0/16"], openers=["10.244.0.0/16"]),
            )
        ],
        local_prefixes=["10.244.0.0/16", "fd24::/48"],
        routes=[pb.Route(prefix="10.244.1.0/24", link="un-1", via="169.254.20.2", inside=True)],
        responder_port=7300,
    )


def second_peer(state: pb.DesiredState) -> pb.Peer:
    """Add another peer with the same addresses to a state."""
    link = state.links.add(name="wg-c", addresses=["169.254.19.1/30"])
    link.wireguard.private_key.file = "/keys/c"
    return state.peers.add(
        name="c", number=8, links=["wg-c"], prefixes=[pb.PrefixMap(real="10.244.0.0/16", seen="10.73.0.0/16")]
    )
