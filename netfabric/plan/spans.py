"""Networks as spans of whole numbers: overlap, free places, and translation prefix for prefix.

Each family has its own number line. Text is read and written by `ipaddress`; nothing in between makes an object per
address, so that 10,000 addresses of a network cost what one does.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IPNetwork = IPv4Network | IPv6Network
_BITS = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """One network: `bits` free bits behind `first`."""

    version: int
    first: int
    bits: int

    @property
    def last(self) -> int:
        """The last address in it."""
        return self.first + (1 << self.bits) - 1

    @property
    def prefix(self) -> int:
        """The length of its prefix."""
        return _BITS[self.version] - self.bits

    def overlaps(self, other: Span) -> bool:
        """Whether some address is in both."""
        return self.version == other.version and self.first <= other.last and other.first <= self.last

    def holds(self, other: Span) -> bool:
        """Whether all of the other is in this one."""
        return self.version == other.version and self.first <= other.first and other.last <= self.last

    def __str__(self) -> str:
        """In canonical text."""
        return f"{_address(self.version, self.first)}/{self.prefix}"


def span(cidr: str) -> Span:
    """The span of a network's text. Raises ValueError; bits behind the prefix must be zero."""
    return of_network(ip_network(cidr))


def of_network(network: IPNetwork) -> Span:
    """The span of a network."""
    return Span(network.version, int(network.network_address), network.max_prefixlen - network.prefixlen)


def host(address: str) -> Span:
    """The span of one address. Raises ValueError; a zone (``%eth0``) is none."""
    if "%" in address:
        raise ValueError(f"{address!r} has a zone")
    found = ip_address(address)
    return Span(found.version, int(found), 0)


@lru_cache(maxsize=8192)
def _address(version: int, number: int) -> str:
    # Each node is told the same of each peer: written once for all nodes.
    return str(IPv4Address(number) if version == 4 else IPv6Address(number))


def spans(cidrs: Iterable[str]) -> list[Span]:
    """The spans of several networks. Raises ValueError."""
    return [span(cidr) for cidr in cidrs]


@dataclass(frozen=True, slots=True)
class Mapping:
    """`inner` stands for `outer`, address by address; both have the same family and size."""

    outer: Span
    inner: Span

    def __post_init__(self) -> None:
        if (self.outer.version, self.outer.bits) != (self.inner.version, self.inner.bits):
            raise ValueError(f"{self.outer} and {self.inner} differ in family or size")

    @property
    def reversed(self) -> Mapping:
        """The way back."""
        return Mapping(self.inner, self.outer)

    def shift(self, other: Span) -> Span:
        """A part of `outer` as it is in `inner`."""
        return Span(other.version, other.first - self.outer.first + self.inner.first, other.bits)


class Taken:
    """Spans that are used, by family, sorted, so that a free place is found without trying each."""

    def __init__(self, used: Iterable[Span] = ()) -> None:
        self._lines: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        for one in used:
            self.add(one)

    def add(self, one: Span) -> None:
        """Count a span as used; it may overlap others."""
        line = self._lines[one.version]
        first, last = one.first, one.last
        start = bisect.bisect_left(line, (first, first))
        if start and line[start - 1][1] >= first:
            start -= 1
        end = start
        while end < len(line) and line[end][0] <= last:
            first, last = min(first, line[end][0]), max(last, line[end][1])
            end += 1
        line[start:end] = [(first, last)]

    def free(self, one: Span) -> bool:
        """Whether no address of it is used."""
        return self._blocker(one.version, one.first, one.last) is None

    def place(self, pool: Span, *, bits: int) -> Span | None:
        """The first free network of this size in a pool; None if there is none."""
        size = 1 << bits
        at = pool.first
        while at + size - 1 <= pool.last:
            blocked_to = self._blocker(pool.version, at, at + size - 1)
            if blocked_to is None:
                return Span(pool.version, at, bits)
            at = (blocked_to // size + 1) * size
        return None

    def _blocker(self, version: int, first: int, last: int) -> int | None:
        """The last address of a used stretch that meets this one."""
        line = self._lines[version]
        after = bisect.bisect_right(line, (last, 1 << 129))
        if after and line[after - 1][1] >= first:
            return line[after - 1][1]
        return None
