"""Addresses of this cluster's external networks: one for what is neither pod nor Service, one for each ExternalAddress.

Pure. What a status holds stays; new ones get the first that is free, in the order of age.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from netfabric.plan.model import Kind, Own, Problem
from netfabric.plan.spans import Span, Taken, host


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalInput:
    """One ExternalAddress as declared, and what its status holds."""

    name: str
    order: tuple[str, str] = ("", "")
    address: str
    held: str = ""


External = str | Problem
"""The address that stands for it, or why there is none."""


def usable(own: Own) -> list[Span]:
    """External networks that nothing else of ours overlaps."""
    others = [span for kind, span in own.networks if kind is not Kind.EXTERNAL]
    others += [span for _, span in own.reserved]
    return [
        span
        for kind, span in own.networks
        if kind is Kind.EXTERNAL and not any(span.overlaps(other) for other in others)
    ]


def source(network: Span) -> str:
    """What stands for everything of this cluster that is neither pod nor Service: the first that hosts can have."""
    return _text(network, network.first + (1 if network.bits > 1 else 0))


def sources(own: Own) -> dict[int, str]:
    """That address for each family (4, 6) that has an external network."""
    found: dict[int, str] = {}
    for network in sorted(usable(own)):
        found.setdefault(network.version, source(network))
    return found


def allocate(own: Own, wanted: Iterable[ExternalInput], *, foreign: Sequence[Span] = ()) -> Mapping[str, External]:
    """An address for each of them. `foreign` are networks of peers: one peer is no way to another."""
    ordered = sorted(wanted, key=lambda one: (one.order, one.name))
    networks = sorted(usable(own))
    # The network's own address is nobody's; one with a single free bit is all hosts.
    taken = Taken(Span(one.version, one.first, 0) for one in networks if one.bits > 1)
    for network in networks:
        taken.add(host(source(network)))
    made: dict[str, External] = {}
    for one in ordered:
        problem = _unfit(own, one, foreign)
        if problem is not None:
            made[one.name] = problem
        elif one.held and _keepable(one, networks, taken):
            made[one.name] = one.held
            taken.add(host(one.held))
    for one in ordered:
        if one.name not in made:
            made[one.name] = _place(one, networks, taken)
    return made


def _keepable(one: ExternalInput, networks: list[Span], taken: Taken) -> bool:
    try:
        held, real = host(one.held), host(one.address)
    except ValueError:
        return False
    return held.version == real.version and any(network.holds(held) for network in networks) and taken.free(held)


def _place(one: ExternalInput, networks: list[Span], taken: Taken) -> External:
    real = host(one.address)
    fitting = [network for network in networks if network.version == real.version]
    for network in fitting:
        found = taken.place(network, bits=0)
        if found is not None:
            taken.add(found)
            return _text(found, found.first)
    if fitting:
        return Problem("NetworkFull", f"no address is left in {fitting[0]}; add a network to spec.local.externalCIDRs")
    told = f"no usable IPv{real.version} network in spec.local.externalCIDRs of any NetworkPeering; declare one"
    return Problem("NoExternalNetwork", told)


def _unfit(own: Own, one: ExternalInput, foreign: Sequence[Span]) -> Problem | None:
    try:
        real = host(one.address)
    except ValueError:
        return Problem("InvalidAddress", f"spec.address: {one.address!r} is no IP address")
    for kind, span in own.networks:
        if span.overlaps(real):
            kinds = {Kind.POD: "a pod's", Kind.SERVICE: "a Service's", Kind.EXTERNAL: "an external network's"}
            told = f"spec.address: {one.address} is {kinds[kind]} ({span}), which peers reach as it is or not at all"
            return Problem("NotExternal", told)
    met = next((span for span in foreign if span.overlaps(real)), None)
    if met is not None:
        told = f"spec.address: {one.address} is in {met}, which stands for a peer's network: there is no transit"
        return Problem("NotExternal", told)
    return None


def _text(network: Span, number: int) -> str:
    return str(Span(network.version, number, 0)).partition("/")[0]
