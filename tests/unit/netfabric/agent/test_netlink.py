"""What a kernel says of an interface, read from its own bytes."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from netfabric.agent import messages
from netfabric.agent.kernel import KernelLink

_NAME, _MTU, _ADDRESS, _LINKINFO = 3, 4, 1, 18
_MAC = bytes([2, 0, 0, 0, 0, 7])
# As linux/if_link.h counts them, in the order in which Linux 6.1 sends them.
_GENEVE = {1: struct.pack("I", 101), 3: b"\0", 12: b"\0", 4: b"\0", 13: b"\0", 11: bytes(4), 5: struct.pack(">H", 6091)}
_VXLAN = {1: struct.pack("I", 101), 5: b"\0", 6: b"\0", 15: struct.pack(">H", 6091), 7: b"\0", 8: struct.pack("I", 300)}


def attribute(number: int, content: bytes) -> bytes:
    return struct.pack("HH", 4 + len(content), number) + content + bytes(-len(content) % 4)


def message(kind: bytes, data: dict[int, bytes]) -> ifinfmsg:
    """An RTM_NEWLINK (rtnetlink(7))."""
    inner = b"".join(attribute(number, content) for number, content in data.items())
    body = struct.pack("BBHiII", 0, 0, 1, 5, 1, 0) + attribute(_NAME, b"un-1\0")
    body += attribute(_ADDRESS, _MAC) + attribute(_MTU, struct.pack("I", 1450))
    body += attribute(_LINKINFO, attribute(1, kind + b"\0") + attribute(2, inner))
    made = ifinfmsg(struct.pack("IHHII", 16 + len(body), 16, 0, 1, 1) + body)
    made.decode()
    return made


@pytest.mark.parametrize(("address", "number"), [("10.9.0.2", 2), ("fd00::2", 7)])
def test_a_geneve_interface_is_read(address: str, number: int) -> None:
    found = messages.kernel_link("un-1", message(b"geneve", _GENEVE | {number: ip_address(address).packed}))
    assert found == KernelLink(
        name="un-1", kind="geneve", mtu=1450, mac="02:00:00:00:00:07", vni=101, remote=ip_address(address), port=6091
    )


@pytest.mark.parametrize(("version", "group", "local"), [(4, 2, 4), (6, 16, 17)])
def test_a_vxlan_interface_is_read(version: int, group: int, local: int) -> None:
    near, far = map(ip_address, ("10.9.0.1", "10.9.0.2") if version == 4 else ("fd00::1", "fd00::2"))
    found = messages.kernel_link("un-1", message(b"vxlan", _VXLAN | {group: far.packed, local: near.packed}))
    mac = "02:00:00:00:00:07"
    wanted = {"mtu": 1450, "mac": mac, "vni": 101, "remote": far, "local": near, "port": 6091}
    assert found == KernelLink(name="un-1", kind="vxlan", **wanted)  # type: ignore[arg-type] # of several types
