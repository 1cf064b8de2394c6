"""How large a packet the way to an outer address takes, as the kernel learns it from routers (RFC 1191, RFC 8201).

Tunnels send their outer packets with fragmentation allowed, so nothing is lost when the way is narrower than thought,
but routers never tell either. So a datagram that may not be fragmented is sent now and then to where the tunnel goes:
what it holds means nothing to the other end, and a router that can't pass it on says so to the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from netfabric.agent.model import Address

_WAIT = 0.2
_HEADERS = {4: 28, 6: 48}
# linux/in.h, linux/in6.h; Python's socket module has not all of them.
_IP_MTU_DISCOVER, _IP_MTU, _DO = 10, 14, 2
_IPV6_MTU_DISCOVER, _IPV6_MTU = 23, 24
_ROUNDS = 4


async def mtu(address: Address, port: int) -> int | None:
    """MTU of the way to an address in bytes; None if there is no way now."""
    six = address.version == 6
    family = socket.AF_INET6 if six else socket.AF_INET
    level, discover, value = (
        (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _IPV6_MTU) if six else (socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_MTU)
    )
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.setsockopt(level, discover, _DO)
        sender.connect((str(address), port))
        known = int(sender.getsockopt(level, value))
        # Each router on the way may be narrower than the last.
        for _ in range(_ROUNDS):
            with contextlib.suppress(OSError):
                sender.send(bytes(known - _HEADERS[address.version]))
            await asyncio.sleep(_WAIT)
            found = int(sender.getsockopt(level, value))
            if found == known:
                break
            known = found
        return known
    return None
