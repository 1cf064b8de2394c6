"""From what is declared, and what the statuses hold, to the plan. Pure and deterministic.

The rules, in this order:

1. What this cluster itself has is never given to a peer.
2. What is in use stays: an assignment that a status holds is kept as long as the peer declares the network. If it has
   come to be in the way of something of ours it is not moved behind anybody's back: nothing passes through it, and a
   condition says what to do. Of two peers that hold the same, the older one has it.
3. A pin of the user moves it, if the place is free.
4. A new network stands for itself if that is free, else the first free place of the pools stands for it.

So no address ever has two meanings, the order in which objects are read does not matter, and a plan made from its
own outcome moves nothing. Where a pin moves a network, its old place stays empty for one more plan: not every node
has heard of the change yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netfabric.plan import ports
from netfabric.plan.model import (
    INTERNAL,
    MOST_NUMBER,
    SHORTEST_PREFIX,
    UNFIT,
    Kind,
    Own,
    PeerInput,
    PeerPlan,
    Plan,
    Planned,
    Problem,
    name,
)
from netfabric.plan.ports import Ports
from netfabric.plan.spans import Mapping, Span, Taken

_Slot = tuple[str, Span]
"""A peer's name and a network as it declares it."""


def plan(own: Own, peers: Iterable[PeerInput]) -> Plan:
    """What each peer's networks are called here."""
    ordered = sorted(peers, key=lambda peer: (peer.order, peer.name))
    work = _Work(own)
    for peer in ordered:
        work.admit(peer)
    for peer in ordered:
        work.keep(peer)
    for peer in ordered:
        work.pin(peer)
    for peer in ordered:
        work.same(peer)
    for peer in ordered:
        work.place(peer)
    given, numbers = ports.assign(ordered), _numbers(ordered)
    made = {peer.name: work.outcome(peer, given[peer.name], number=numbers[peer.name]) for peer in ordered}
    return Plan(made, tuple(own_problems(own)))


def own_problems(own: Own) -> Iterator[Problem]:
    """What is wrong with our own declaration by itself."""
    for index, (kind, span) in enumerate(own.networks):
        for other_kind, other in own.networks[:index]:
            if span.overlaps(other) and kind is not other_kind:
                yield Problem(
                    "LocalOverlap",
                    f"spec.local: {name(other_kind)} {other} and {name(kind)} {span} overlap; declare each as it is",
                )


class _Work:
    """The plan while it is made."""

    def __init__(self, own: Own) -> None:
        self._own = own.named()
        self._taken = Taken((*UNFIT, *INTERNAL, *(span for _, span in self._own)))
        self._kinds: dict[_Slot, Kind] = {}
        self._done: dict[_Slot, Planned] = {}
        self._problems: dict[str, list[Problem]] = {}
        self._holders: list[tuple[Span, str]] = []

    # -- the steps

    def admit(self, peer: PeerInput) -> None:
        """Refuse what no peer may have."""
        seen: list[tuple[Kind, Span]] = []
        for kind, span in sorted(set(peer.networks)):
            problem = _unfit(kind, span) or _overlap(kind, span, seen)
            if problem is not None:
                self._tell(peer, problem)
            else:
                seen.append((kind, span))
                self._kinds[peer.name, span] = kind

    def keep(self, peer: PeerInput) -> None:
        """Leave what is in use where it is, even where something has come in its way."""
        for slot in self._slots(peer):
            held = peer.held.get(slot[1])
            if held is None or (held.version, held.bits) != (slot[1].version, slot[1].bits):
                continue
            if not peer.translates and held != slot[1]:
                continue
            problem = self._in_the_way(slot[1], held)
            self._settle(peer, slot, held, problem=problem)

    def pin(self, peer: PeerInput) -> None:
        """Put networks where the user wants them, if that is possible."""
        for slot in self._slots(peer):
            pinned = peer.pins.get(slot[1])
            known = self._done.get(slot)
            if pinned is None or (known is not None and known.mapping.inner == pinned):
                continue
            problem = _bad_pin(peer, slot[1], pinned) or self._blocked(slot[1], pinned)
            if problem is not None:
                self._tell(peer, Problem("PinRefused", f"spec.remap: {problem.message}"))
                if known is None:
                    self._kinds.pop(slot)  # it goes nowhere until the pin is possible
            else:
                self._settle(peer, slot, pinned)

    def same(self, peer: PeerInput) -> None:
        """Let networks stand for themselves."""
        for slot in self._slots(peer):
            if slot not in self._done and self._taken.free(slot[1]):
                self._settle(peer, slot, slot[1])

    def place(self, peer: PeerInput) -> None:
        """Find places for the rest."""
        for slot in self._slots(peer):
            if slot in self._done:
                continue
            span = slot[1]
            if not peer.translates:
                text = self._owner(span) or "another network"
                told = (
                    f"spec.peer: {span} overlaps {text}, and technology None cannot translate; use another technology"
                )
                self._tell(peer, Problem("OverlapWithoutTranslation", told))
                continue
            found = self._find(peer, span)
            if found is None:
                told = f"no pool has room for a /{span.prefix} in place of {span}; add one to spec.remapPools"
                self._tell(peer, Problem("PoolExhausted", told))
            else:
                self._settle(peer, slot, found)

    def outcome(self, peer: PeerInput, given: Ports, *, number: int) -> PeerPlan:
        """What it came to for one peer."""
        networks = [self._done[slot] for slot in self._slots(peer) if slot in self._done]
        problems = [*self._problems.get(peer.name, ()), *(one.problem for one in networks if one.problem)]
        if given.problem is not None:
            problems.append(given.problem)
        if not number:
            problems.append(Problem("TooManyPeers", f"a cluster has {MOST_NUMBER} NetworkPeerings at most; remove one"))
        return PeerPlan(peer.name, tuple(networks), tuple(problems), given.first, number, given.further)

    # -- their means

    def _slots(self, peer: PeerInput) -> list[_Slot]:
        found = [(kind, span) for kind, span in set(peer.networks) if self._kinds.get((peer.name, span)) is kind]
        return [(peer.name, span) for _, span in sorted(found)]

    def _settle(self, peer: PeerInput, slot: _Slot, inner: Span, *, problem: Problem | None = None) -> None:
        self._done[slot] = Planned(self._kinds[slot], Mapping(slot[1], inner), problem)
        self._taken.add(inner)
        if problem is None:
            self._holders.append((inner, f"what stands for {slot[1]} of {peer.name}"))

    def _find(self, peer: PeerInput, span: Span) -> Span | None:
        for pool in peer.pools:
            if pool.version == span.version:
                found = self._taken.place(pool, bits=span.bits)
                if found is not None:
                    return found
        return None

    def _in_the_way(self, outer: Span, inner: Span) -> Problem | None:
        """Why an assignment that is held can't be used: the taken spans hold it, too, once it is settled."""
        owner = self._owner(inner)
        if owner is None:
            return None
        told = (
            f"{inner} stands for {outer} and is {owner} now, so nothing passes; "
            f"take that back, or name a free network for {outer} in spec.remap"
        )
        return Problem("AddressConflict", told)

    def _blocked(self, outer: Span, inner: Span) -> Problem | None:
        owner = self._owner(inner)
        if owner is not None:
            return Problem("", f"{inner} cannot stand for {outer}: it is {owner}")
        if not self._taken.free(inner):
            return Problem("", f"{inner} cannot stand for {outer}: something else is there until now")
        return None

    def _owner(self, span: Span) -> str | None:
        """What it overlaps, for people."""
        found = next((f"{text} {other}" for text, other in self._own if span.overlaps(other)), None)
        return found or next((f"{text} ({other})" for other, text in self._holders if span.overlaps(other)), None)

    def _tell(self, peer: PeerInput, problem: Problem) -> None:
        self._problems.setdefault(peer.name, []).append(problem)


def _unfit(kind: Kind, span: Span) -> Problem | None:
    if span.prefix < SHORTEST_PREFIX[span.version]:
        told = f"spec.peer: {name(kind)} {span} is not taken: a default route, or a large part of one"
        return Problem("UnfitNetwork", told)
    met = next((one for one in (*UNFIT, *INTERNAL) if span.overlaps(one)), None)
    if met is not None:
        told = f"spec.peer: {name(kind)} {span} is not taken: no pod of another cluster has an address in {met}"
        return Problem("UnfitNetwork", told)
    return None


def _overlap(kind: Kind, span: Span, seen: list[tuple[Kind, Span]]) -> Problem | None:
    met = next(((other_kind, other) for other_kind, other in seen if span.overlaps(other)), None)
    if met is None:
        return None
    told = f"spec.peer: {name(kind)} {span} is not taken: it overlaps the peer's own {name(met[0])} {met[1]}"
    return Problem("PeerOverlap", told)


def _bad_pin(peer: PeerInput, outer: Span, inner: Span) -> Problem | None:
    if (outer.version, outer.bits) != (inner.version, inner.bits):
        return Problem("", f"{inner} cannot stand for {outer}: they differ in size or family")
    if not peer.translates and inner != outer:
        return Problem("", f"{inner} cannot stand for {outer}: technology None cannot translate")
    if inner.prefix < SHORTEST_PREFIX[inner.version] or any(inner.overlaps(one) for one in (*UNFIT, *INTERNAL)):
        return Problem("", f"{inner} cannot stand for {outer}: it is no network for pods")
    return None


def _numbers(ordered: list[PeerInput]) -> dict[str, int]:
    """A number for each: the one that is held, or the first that is free."""
    made: dict[str, int] = {}
    for peer in ordered:
        if 0 < peer.held_number <= MOST_NUMBER and peer.held_number not in made.values():
            made[peer.name] = peer.held_number
    taken, free = set(made.values()), 1
    for peer in ordered:
        if peer.name not in made:
            while free in taken:
                free += 1
            taken.add(free)
            made[peer.name] = free if free <= MOST_NUMBER else 0
    return made
