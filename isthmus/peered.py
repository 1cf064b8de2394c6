"""Addresses by the plan of a NetworkPeering: what plugs the network module into a virtual kubelet.

How the provider's networks are seen here stands in the status of the consumer's own NetworkPeering, how the provider
sees the consumer's in its spec, where the exchange puts it. Before either is known nothing has an address: none is
truer than one that leads elsewhere.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator

import prometheus_client
import structlog

from api.networking.definitions import NETWORK_PEERINGS
from api.networking.peering import NetworkPeering
from kube.client import Client
from kube.reflector import Reflector
from kube.store import Change
from netfabric.plan.spans import Mapping, Span, span
from netfabric.plan.translation import Outward, Translation

log = structlog.get_logger(__name__)


class Peered:
    """`isthmus.addresses.Addresses` of one provider. Run `run` for ever."""

    def __init__(
        self, consumer: Client, *, peering: str, registry: prometheus_client.CollectorRegistry | None = None
    ) -> None:
        self._subscribers: list[Callable[[], None]] = []
        self._outward, self._back = Outward(seen=(), theirs=()), Translation(())
        self._probed: tuple[str, ...] = ()
        self._reflector: Reflector[NetworkPeering] = Reflector(
            consumer,
            NETWORK_PEERINGS,
            decode=NetworkPeering,
            field_selector=f"metadata.name={peering}",
            on_change=self._changed,
            registry=registry,
        )

    @property
    def run(self) -> Callable[[], Awaitable[None]]:
        """What watches the NetworkPeering."""
        return self._reflector.run

    async def ready(self) -> None:
        """Wait until the NetworkPeering, or its absence, is known."""
        await self._reflector.synced.wait()

    def address(self, address: str) -> str | None:
        """An address of the consumer's objects as the provider's pods reach it."""
        return self._outward.address(address)

    def network(self, cidr: str) -> str | None:
        """A network of the consumer's objects as the provider's pods know it."""
        return self._outward.network(cidr)

    def back(self, address: str) -> str | None:
        """The address of a provider's pod as the consumer reaches it."""
        return self._back.address(address)

    @property
    def probed(self) -> tuple[str, ...]:
        """Addresses, as reached from here, at which the provider answers who asks whether its pods are reached."""
        return self._probed

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Have `changed` called after the answers have changed."""
        self._subscribers.append(changed)

    def _changed(self, change: Change[NetworkPeering]) -> None:
        before = _parts(change.old)
        seen, theirs, pods, asked = after = _parts(change.new)
        if before == after and change.old is not None:
            return
        self._outward, self._back = Outward(seen=seen, theirs=theirs), Translation(pods)
        self._probed = tuple(one for one in map(self._back.address, asked) if one is not None)
        log.info("addresses follow the network's plan", networks=len(theirs), known_there=len(seen))
        for changed in self._subscribers:
            changed()


def _parts(
    peering: NetworkPeering | None,
) -> tuple[tuple[Mapping, ...], tuple[Mapping, ...], tuple[Mapping, ...], tuple[str, ...]]:
    """Our networks as the peer sees them, the peer's as we do, of those its pods', and where it answers probes."""
    if peering is None:
        return (), (), (), ()
    open_ = [one for one in peering.status.networks if not one.problem]
    theirs = tuple(_mappings((one.cidr, one.seen_as) for one in open_))
    pods = tuple(_mappings((one.cidr, one.seen_as) for one in open_ if one.kind == "Pod"))
    told = peering.spec.peer.remapped_cidrs if peering.spec.peer is not None else ()
    asked = peering.spec.peer.probe_addresses if peering.spec.peer is not None else ()
    own = _own(peering)
    seen = (one for one in _mappings((one.cidr, one.seen_as) for one in told))
    # What a peer says of networks that are not ours is not its business.
    return tuple(one for one in seen if any(ours.holds(one.outer) for ours in own)), theirs, pods, asked


def _own(peering: NetworkPeering) -> list[Span]:
    local = peering.spec.local
    if local is None:
        return []
    found: list[Span] = []
    for cidr in (*local.pod_cidrs, *local.service_cidrs, *local.external_cidrs):
        try:
            found.append(span(cidr))
        except ValueError:
            continue
    return found


def _mappings(pairs: Iterable[tuple[str, str]]) -> Iterator[Mapping]:
    for outer, inner in pairs:
        try:
            yield Mapping(span(outer), span(inner))
        except ValueError:
            continue
