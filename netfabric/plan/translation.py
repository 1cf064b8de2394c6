"""Addresses of one cluster as another sees them, and back.

A translation costs one look through its few prefixes, however many addresses they hold.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from netfabric.plan.spans import Mapping, Span, host, of_network, spans

_LOCAL = spans(
    [
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8"),
        *("224.0.0.0/4", "fc00::/7", "fe80::/10", "ff00::/8", "::1/128"),
    ]
)
"""What means something else in each cluster (RFC 1918, 6598, 3927, 4193, 4291)."""


class Translation:
    """Through the given mappings, and nothing else: what is in none of them has no counterpart."""

    def __init__(self, mappings: Iterable[Mapping]) -> None:
        # The longest prefix decides, as it does for a route.
        self.mappings = tuple(sorted(set(mappings), key=lambda one: (one.outer.version, one.outer.bits)))

    def back(self) -> Translation:
        """The other direction."""
        return Translation(one.reversed for one in self.mappings)

    def address(self, address: str) -> str | None:
        """The counterpart of an address; None if it has none, or is no address."""
        try:
            wanted = host(address)
        except ValueError:
            return None
        found = self._shifted(wanted)
        return str(found).partition("/")[0] if found is not None else None

    def network(self, cidr: str) -> str | None:
        """The counterpart of a network; None if it is not all of it in one mapping, or is no network."""
        try:
            # NetworkPolicies may have bits set behind the prefix; they mean the network all the same.
            wanted = of_network(ip_network(cidr, strict=False))
        except ValueError:
            return None
        found = self._shifted(wanted)
        return str(found) if found is not None else None

    def _shifted(self, wanted: Span) -> Span | None:
        return next((one.shift(wanted) for one in self.mappings if one.outer.holds(wanted)), None)


class Outward:
    """Addresses that this cluster's objects name, as the peer's pods reach them (`AddressTranslation` of reflection).

    What is ours goes by how the peer sees us, what is the peer's own goes home, and what is reached over the
    internet is the same everywhere. All else, such as addresses of our machines or of a third cluster, is not
    reachable from there: there is no transit.
    """

    def __init__(self, *, seen: Iterable[Mapping], theirs: Iterable[Mapping]) -> None:
        """`seen`: our networks and what the peer calls them; `theirs`: its networks and what we call them."""
        self._ways = (Translation(theirs).back(), Translation(seen))

    def address(self, address: str) -> str | None:
        """An IP address."""
        found = next((way.address(address) for way in self._ways if way.address(address) is not None), None)
        if found is not None:
            return found
        try:
            return address if ip_address(address).is_global else None
        except ValueError:
            return None

    def network(self, cidr: str) -> str | None:
        """A network in CIDR notation. "Everything" is everything there too."""
        found = next((way.network(cidr) for way in self._ways if way.network(cidr) is not None), None)
        if found is not None:
            return found
        try:
            wanted = of_network(ip_network(cidr, strict=False))
        except ValueError:
            return None
        return cidr if wanted.prefix == 0 or not any(wanted.overlaps(one) for one in _LOCAL) else None
