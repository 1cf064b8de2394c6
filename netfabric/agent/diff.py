"""From what is there to what should be, in as few steps as can be and in an order that never leaves a gap. Pure.

New things come before old ones go, a route that changes is replaced in one step, and what is right is not named at all:
a healthy kernel gives an empty list, also after a restart of the agent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from netfabric.agent.kernel import OWN, KernelLink, KernelRoute, KernelRule, KernelState
from netfabric.agent.model import Interface, Problem


class Do(Enum):
    """What to do with an object."""

    ADD = "add"
    CHANGE = "change"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class LinkStep:
    """Make, adjust (MTU, far end, up) or remove an interface."""

    do: Do
    link: KernelLink

    @property
    def object(self) -> str:
        """For reports."""
        return f"links[{self.link.name}]"


@dataclass(frozen=True, slots=True)
class AddressStep:
    """Add or remove an address."""

    do: Do
    link: str
    address: Interface

    @property
    def object(self) -> str:
        """For reports."""
        return f"links[{self.link}].addresses[{self.address}]"


@dataclass(frozen=True, slots=True)
class RouteStep:
    """Add, replace or remove a route."""

    do: Do
    route: KernelRoute

    @property
    def object(self) -> str:
        """For reports."""
        return f"routes[{self.route.prefix}]"


@dataclass(frozen=True, slots=True)
class RuleStep:
    """Add or remove a rule."""

    do: Do
    rule: KernelRule

    @property
    def object(self) -> str:
        """For reports."""
        return f"rules[{self.rule.mark}]"


Step: TypeAlias = LinkStep | AddressStep | RouteStep | RuleStep


def difference(present: KernelState, wanted: KernelState) -> tuple[list[Step], list[Problem]]:
    """Steps from `present` to `wanted`, and what can't be had because something else is in the way."""
    problems = [
        Problem(f"links[{name}]", "LinkForeign", f"an interface named {name} is there and was not made by isthmus")
        for name in sorted(wanted.links.keys() & present.foreign)
    ]
    problems += [
        Problem(
            f"rules[{priority}]",
            "Conflict",
            f"a rule of IPv{version} that isthmus did not make looks for this gateway's own addresses first: pods of "
            f"peers that have one of them are not reached; remove it (ip -{version} rule del pref {priority})",
        )
        for version, priority in sorted(present.foreign_first.items())
        if any(rule.mark == OWN and rule.version == version for rule in wanted.rules)
    ]
    links = {name: link for name, link in wanted.links.items() if name not in present.foreign}
    remade = {n for n, link in links.items() if n in present.links and present.links[n].fixed != link.fixed}
    steps: list[Step] = [LinkStep(Do.DELETE, present.links[name]) for name in sorted(remade)]
    steps += _links(present, links, remade)
    # What hung on an interface that is made anew went with it.
    addresses = {entry for entry in present.addresses if entry[0] not in remade}
    routes = {route for route in present.routes if remade.isdisjoint(route.links)}
    usable = links.keys() | present.foreign
    needed = {entry for entry in wanted.addresses if entry[0] in usable}
    steps += [AddressStep(Do.ADD, *entry) for entry in sorted(needed - addresses, key=str)]
    steps += _routes(routes, {route for route in wanted.routes if usable.issuperset(route.links)})
    steps += [RuleStep(Do.ADD, rule) for rule in sorted(wanted.rules - present.rules, key=str)]
    steps += [RuleStep(Do.DELETE, rule) for rule in sorted(present.rules - wanted.rules, key=str)]
    ours = {entry for entry in addresses if entry[0] in present.links and entry[0] in links}
    steps += [AddressStep(Do.DELETE, *entry) for entry in sorted(ours - needed, key=str)]
    steps += [LinkStep(Do.DELETE, present.links[n]) for n in sorted(present.links.keys() - links.keys())]
    missing = {name for route in wanted.routes for name in route.links} | {name for name, _ in wanted.addresses}
    problems += [
        Problem(f"links[{name}]", "LinkMissing", f"there is no interface {name}; it is to be made by something else")
        for name in sorted(missing - usable - wanted.links.keys())
    ]
    return steps, problems


def _links(present: KernelState, links: dict[str, KernelLink], remade: set[str]) -> Iterator[Step]:
    for name, link in sorted(links.items()):
        if name not in present.links or name in remade:
            yield LinkStep(Do.ADD, link)
        elif present.links[name] != link:
            yield LinkStep(Do.CHANGE, link)


def _routes(present: set[KernelRoute], wanted: set[KernelRoute]) -> Iterator[Step]:
    have = {route.key: route for route in present}
    want = {route.key: route for route in wanted}
    for key, route in sorted(want.items(), key=str):
        if key not in have:
            yield RouteStep(Do.ADD, route)
        elif have[key] != route:
            yield RouteStep(Do.CHANGE, route)
    for key, route in sorted(have.items(), key=str):
        if key not in want:
            yield RouteStep(Do.DELETE, route)
