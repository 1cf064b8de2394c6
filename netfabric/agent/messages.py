"""What rtnetlink's messages say of interfaces and routes, in the terms of `kernel`, and the other way round. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple

from netfabric.agent.kernel import LOCAL_TABLE, PRIORITY, KernelLink, KernelRoute
from netfabric.agent.model import Address

_IFF_UP = 1
_ONLINK = 4
_UNCONDITIONAL = {"FRA_TABLE", "FRA_SUPPRESS_PREFIXLEN", "FRA_PROTOCOL", "FRA_PRIORITY"}
"""Attributes of a rule that every packet meets."""


class _Names(NamedTuple):
    """Attributes of a technology's interfaces (linux/if_link.h)."""

    vni: str
    port: str
    remote: str
    local: str


_VXLAN = _Names("IFLA_VXLAN_ID", "IFLA_VXLAN_PORT", "IFLA_VXLAN_GROUP", "IFLA_VXLAN_LOCAL")
_GENEVE = _Names("IFLA_GENEVE_ID", "IFLA_GENEVE_PORT", "IFLA_GENEVE_REMOTE", "IFLA_GENEVE_LOCAL")
"""A geneve has no local address; the name is for none."""


def kernel_link(name: str, message: Any) -> KernelLink:
    """An interface from its message."""
    information: Any = message.get("linkinfo") or {}
    data: Any = information.get("data")
    kind = information.get("kind") or ""
    if kind not in ("vxlan", "geneve") or data is None:
        return KernelLink(name=name, kind=kind, mtu=message.get("mtu"), up=bool(message["flags"] & _IFF_UP))
    # In full: pyroute2 finds by its short name what it has of a vxlan, and nothing of a geneve.
    names = _VXLAN if kind == "vxlan" else _GENEVE
    return KernelLink(
        name=name,
        kind=kind,
        mtu=message.get("mtu"),
        up=bool(message["flags"] & _IFF_UP),
        mac=message.get("address"),
        vni=data.get_attr(names.vni),
        port=data.get_attr(names.port),
        remote=address(data.get_attr(names.remote) or data.get_attr(f"{names.remote}6")),
        local=address(data.get_attr(names.local) or data.get_attr(f"{names.local}6")),
    )


def attributes(link: KernelLink) -> dict[str, Any]:
    """What an interface is made with."""
    if link.kind == "geneve":
        six = "6" if link.remote is not None and link.remote.version == 6 else ""
        far = {f"geneve_remote{six}": str(link.remote)}
        return {"geneve_id": link.vni, "geneve_port": link.port, "address": link.mac, "mtu": link.mtu} | far
    if link.kind == "vxlan":
        return far_end(link) | {"vxlan_port": link.port, "address": link.mac, "mtu": link.mtu}
    return {"mtu": link.mtu}


def far_end(link: KernelLink) -> dict[str, Any]:
    """What of a vxlan may change while it is in use, with all that goes with it."""
    six = "6" if link.remote is not None and link.remote.version == 6 else ""
    return {
        "vxlan_id": link.vni,
        f"vxlan_local{six}": str(link.local),
        f"vxlan_group{six}": str(link.remote),
        "vxlan_learning": False,
    }


def ways(message: Any, names: Mapping[int, str]) -> tuple[list[str], Address | None]:
    """A route's links, in order and as often as they have shares, and its next hop; none where these differ."""
    hops = message.get("multipath")
    if not hops:
        return [names.get(message.get("oif"), "")], address(message.get("gateway"))
    links = [names.get(hop["oif"], "") for hop in hops for _ in range(hop["hops"] + 1)]
    gateways = {hop.get("gateway") for hop in hops}
    return sorted(links), address(gateways.pop()) if len(gateways) == 1 else None


def way(route: KernelRoute, indices: Sequence[int]) -> dict[str, Any]:
    """Where a route leads, its links being given by their numbers."""
    via = {"gateway": str(route.via), "flags": _ONLINK} if route.via is not None else {}
    hops = [{"oif": index} | via for index in indices]
    if not hops:
        return {"type": "unreachable"}
    return {"multipath": hops} if len(hops) > 1 else hops[0]


def address(text: str | None) -> Address | None:
    """Of what may not be there."""
    return ip_address(text) if text else None


def comes_first(rule: Any) -> bool:
    """Whether a rule has all packets looked for among our own addresses before marks are asked."""
    conditions = {name for name, _ in rule["attrs"]} - _UNCONDITIONAL
    early = (rule.get("priority") or 0) <= PRIORITY and rule.get("table") == LOCAL_TABLE
    return early and not (conditions or rule["src_len"] or rule["dst_len"] or rule["tos"])
