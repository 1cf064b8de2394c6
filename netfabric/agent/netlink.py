"""The kernel's interfaces, addresses, routes and rules: the one place that speaks netlink (pyroute2), typed.

`dump` tells what is there in the terms of `kernel`, `carry_out` does one step. What is ours is known by marks that stay
in the kernel: an alias on interfaces, a protocol number on routes and rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netfabric.agent import messages
from netfabric.agent.diff import AddressStep, Do, LinkStep, RouteStep, RuleStep, Step
from netfabric.agent.errors import KernelError
from netfabric.agent.kernel import (
    ALIAS,
    MARK_MASK,
    OWN,
    PROTOCOL,
    Abilities,
    KernelLink,
    KernelRoute,
    KernelRule,
    KernelState,
)
from netfabric.agent.model import Interface, WireGuardKind

SECONDS = 10.0
"""Longest that one request to the kernel may take."""
_FAMILIES = {4: 2, 6: 10}
_IFF_UP = 1
_NODAD = 0x02
_LINK_SCOPE = 253
_KERNEL = 2
"""The protocol of rules that the kernel has by itself (RTPROT_KERNEL)."""
_UNREACHABLE = 7
_MULTIPATH = Path("/proc/sys/net/ipv4/fib_multipath_hash_policy")
"""Is there if the kernel has routes with several links."""
_PROBE_LINK = "isthmus-try"
_EXISTS, _NO_SUCH, _GONE, _NO_DEVICE = 17, 3, 2, 19


@dataclass(frozen=True, slots=True)
class LinkReport:
    """Figures of any interface."""

    up: bool
    mtu: int
    received: int
    sent: int


class Netlink:
    """A connection to the kernel, for the network namespace of the process."""

    def __init__(self, route: AsyncIPRoute) -> None:
        self._route = route
        self._indices: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self.reports: dict[str, LinkReport] = {}
        """Of all interfaces, as of the last dump."""

    @classmethod
    @asynccontextmanager
    async def connect(cls) -> AsyncIterator[Netlink]:
        """A connection, closed at the end."""
        async with AsyncIPRoute() as route:
            yield cls(route)

    async def dump(self) -> KernelState:
        """What is there. Raises `KernelError`."""
        async with _bounded("dump"):
            links, foreign = await self._links()
            rules, first = await self._rules()
            return KernelState(
                links=links,
                foreign=foreign,
                addresses=frozenset([entry async for entry in self._addresses()]),
                routes=frozenset([route async for route in self._routes()]),
                rules=rules,
                foreign_first=first,
            )

    async def carry_out(self, step: Step) -> None:
        """Do one step. Raises `KernelError`; what is gone already counts as removed."""
        async with _bounded(f"{step.do.value} {step.object}", forgiving=step.do is Do.DELETE):
            if isinstance(step, LinkStep):
                await self._link(step.do, step.link)
            elif isinstance(step, AddressStep):
                await self._address(step)
            elif isinstance(step, RouteStep):
                await self._one_route(step)
            else:
                await self._rule(step)

    async def abilities(self, *, userspace: bool) -> Abilities:
        """Find out by trying which kinds of interfaces the kernel makes. `userspace`: whether wireguard-go is there."""
        kernel = await self._can("wireguard", {})
        fallback = WireGuardKind.USERSPACE if userspace else None
        outer = "192.0.2.1"  # a documentation address (RFC 5737): nothing is ever sent
        return Abilities(
            wireguard=WireGuardKind.KERNEL if kernel else fallback,
            geneve=await self._can("geneve", {"geneve_id": 2**24 - 1, "geneve_remote": outer}),
            vxlan=await self._can("vxlan", {"vxlan_id": 2**24 - 1, "vxlan_port": 6092}),
            multipath=await asyncio.to_thread(_MULTIPATH.exists),
        )

    async def _can(self, kind: str, attributes: dict[str, Any]) -> bool:
        try:
            async with asyncio.timeout(SECONDS):
                await self._route.link("add", ifname=_PROBE_LINK, kind=kind, **attributes)
                await self._route.link("del", ifname=_PROBE_LINK)
        except NetlinkError as error:
            return bool(error.code == _EXISTS)
        return True

    async def _links(self) -> tuple[dict[str, KernelLink], frozenset[str]]:
        ours: dict[str, KernelLink] = {}
        foreign: set[str] = set()
        indices: dict[str, int] = {}
        reports: dict[str, LinkReport] = {}
        async for message in await self._route.get_links():
            name = message.get("ifname")
            indices[name] = message["index"]
            figures = message.get("stats64") or {}
            up = bool(message["flags"] & _IFF_UP)
            reports[name] = LinkReport(up, message.get("mtu"), figures.get("rx_bytes", 0), figures.get("tx_bytes", 0))
            if message.get("ifalias") == ALIAS:
                ours[name] = messages.kernel_link(name, message)
            else:
                foreign.add(name)
        self._indices, self.reports = indices, reports
        self._names = {index: name for name, index in indices.items()}
        return ours, frozenset(foreign)

    async def _addresses(self) -> AsyncIterator[tuple[str, Interface]]:
        async for message in await self._route.get_addr():
            name = self._names.get(message["index"], "")
            if message["scope"] != _LINK_SCOPE or message["family"] == _FAMILIES[4]:
                text = message.get("local") or message.get("address")
                yield name, ip_interface(f"{text}/{message['prefixlen']}")

    async def _routes(self) -> AsyncIterator[KernelRoute]:
        for version, family in _FAMILIES.items():
            async for message in await self._route.get_routes(family=family):
                if message["proto"] != PROTOCOL:
                    continue
                links, via = messages.ways(message, self._names) if message["type"] != _UNREACHABLE else ([""], None)
                nothing = "0.0.0.0" if version == 4 else "::"
                yield KernelRoute(
                    prefix=ip_network(f"{message.get('dst') or nothing}/{message['dst_len']}"),
                    table=message.get("table") or message["table"],
                    link=links[0],
                    others=tuple(links[1:]),
                    via=via,
                    source=messages.address(message.get("prefsrc")),
                    metric=message.get("priority") or 0,
                )

    async def _rules(self) -> tuple[frozenset[KernelRule], dict[int, int]]:
        """Ours, and where somebody else's comes first."""
        ours: set[KernelRule] = set()
        foreign: dict[int, int] = {}
        for version, family in _FAMILIES.items():
            found = [message async for message in await self._route.get_rules(family=family)]
            first = {one.get("protocol"): one.get("priority") or 0 for one in found if messages.comes_first(one)}
            for message in found:
                rule = KernelRule(version=version, mark=message.get("fwmark") or OWN)
                mine = message.get("protocol") == PROTOCOL and message.get("table") == rule.table
                # What the kernel has by itself is moved. What somebody added is not: that would never end.
                if mine and not (rule.mark == OWN and _KERNEL in first):
                    ours.add(rule)
            if others := [priority for protocol, priority in first.items() if protocol != _KERNEL]:
                foreign[version] = min(others)
        return frozenset(ours), foreign

    async def _link(self, do: Do, link: KernelLink) -> None:
        if do is Do.DELETE:
            await self._route.link("del", index=self._index(link.name))
            self._indices.pop(link.name, None)
            return
        if do is Do.ADD and link.kind != "tun":
            await self._route.link("add", ifname=link.name, kind=link.kind, **messages.attributes(link))
        if do is Do.ADD:
            found = await self._route.link_lookup(ifname=link.name)
            if not found:
                raise KernelError("LinkMissing", f"{link.name} did not come to be")
            self._indices[link.name] = found[0]
        index = self._index(link.name)
        if do is Do.CHANGE and link.kind == "vxlan":
            # The far end of a vxlan may move while it is in use; all else of it is told again, unchanged.
            await self._route.link("set", index=index, kind=link.kind, **messages.far_end(link))
        await self._route.link("set", index=index, mtu=link.mtu, ifalias=ALIAS, state="up" if link.up else "down")

    async def _address(self, step: AddressStep) -> None:
        ip, length = step.address.ip, step.address.network.prefixlen
        index = self._index(step.link)
        if step.do is Do.ADD:
            flags = {"flags": _NODAD} if ip.version == 6 else {}
            await self._route.addr("add", index=index, address=str(ip), prefixlen=length, **flags)
        else:
            await self._route.addr("del", index=index, address=str(ip), prefixlen=length)

    async def _one_route(self, step: RouteStep) -> None:
        route = step.route
        commands = {Do.ADD: "add", Do.CHANGE: "replace", Do.DELETE: "del"}
        attributes = messages.way(route, [self._index(link) for link in route.links])
        if route.source is not None:
            attributes["prefsrc"] = str(route.source)
        if route.metric:
            attributes["priority"] = route.metric
        await self._route.route(
            commands[step.do],
            family=_FAMILIES[route.prefix.version],
            dst=str(route.prefix),
            table=route.table,
            proto=PROTOCOL,
            **attributes,
        )

    async def _rule(self, step: RuleStep) -> None:
        family, rule = _FAMILIES[step.rule.version], step.rule
        made: dict[str, Any] = {"family": family, "priority": rule.priority, "table": rule.table, "protocol": PROTOCOL}
        if rule.mark == OWN:
            await self._own(step.do, made)
            return
        command = "add" if step.do is Do.ADD else "del"
        await self._route.rule(command, fwmark=rule.mark, fwmask=MARK_MASK, **made)

    async def _own(self, do: Do, made: dict[str, Any]) -> None:
        """Have our own addresses looked for after marks, or first again as the kernel has it by itself.

        New before old: there is no moment without.
        """
        first = made | {"priority": 0, "protocol": _KERNEL}
        come, go = (made, first) if do is Do.ADD else (first, made)
        for command, rule in (("add", come), ("del", go)):
            try:
                await self._route.rule(command, **rule)
            except NetlinkError as error:
                if error.code not in (_EXISTS, _GONE):
                    raise

    def _index(self, name: str) -> int:
        if name not in self._indices:
            raise KernelError("LinkMissing", f"there is no interface {name}")
        return self._indices[name]


@asynccontextmanager
async def _bounded(what: str, *, forgiving: bool = False) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(SECONDS):
            yield
    except NetlinkError as error:
        if forgiving and error.code in (_NO_SUCH, _GONE, _NO_DEVICE):
            return
        reason = "Conflict" if error.code == _EXISTS else "KernelRefused"
        hint = "; one that isthmus did not make is there" if error.code == _EXISTS else ""
        raise KernelError(reason, f"{what}: {error.args[1] if len(error.args) > 1 else error}{hint}") from error
    except TimeoutError:
        raise KernelError("KernelSlow", f"{what}: no answer within {SECONDS:.0f} s") from None
