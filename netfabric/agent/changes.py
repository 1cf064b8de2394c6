"""Tells when something in the kernel's network changed, whoever did it: links, addresses, routes, rules or firewall.

What changed is not read: the agent compares the whole anyway. Messages that come too fast are lost by the kernel, which
is one more change.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager

_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_NETFILTER = 12
# rtnetlink(7): LINK, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE.
_ROUTE_GROUPS = (1, 5, 7, 8, 9, 11, 19)
# nfnetlink: NFNLGRP_NFTABLES.
_NFTABLES_GROUPS = (7,)
_CHUNK = 65536


@contextmanager
def watch(changed: asyncio.Event) -> Iterator[None]:
    """Set `changed` for every change in this network namespace. Raises OSError if the kernel does not tell."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        for protocol, groups in ((socket.NETLINK_ROUTE, _ROUTE_GROUPS), (_NETFILTER, _NFTABLES_GROUPS)):
            source = stack.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol))
            source.setblocking(False)
            source.bind((0, 0))
            for group in groups:
                source.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
            loop.add_reader(source, _drain, source, changed)
            stack.callback(loop.remove_reader, source)
        yield


def _drain(source: socket.socket, changed: asyncio.Event) -> None:
    changed.set()
    while True:
        try:
            source.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:  # ENOBUFS: some were lost; the rest is still to be read
            continue
