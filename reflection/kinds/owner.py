"""Which of a provider's virtual kubelets does what is namespace-wide: one, by a Lease at the provider.

Several virtual nodes of one provider share their namespaces there, so Services and the like must be done once. The
Lease is at the provider, beside what it guards: who is cut off from there can't be the owner, and one who is not can.
(At the consumer it could not be: NodeRestriction keeps a node identity from every Lease but its own.) It is short,
for the work must go on within 3 s of the owner's end: others take it 2 s after its last renewal, at their next look,
every half second; the owner counts itself as owner for two thirds of that time only (`kube.election`). An owner that
merely hangs for a moment takes the Lease again as nobody else has it yet, so a busy machine does not make it change
hands. Whoever ends in order gives it back and is followed at once.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import prometheus_client

from kube.client import Client
from kube.election import LeaderElector
from reflection.forge import names

DURATION = 2.0
"""Seconds without renewal after which others take the Lease."""
RETRY = 0.5
"""Seconds between attempts to renew or to take it."""


class Ownership(Protocol):
    """Who does it."""

    @property
    def leading(self) -> bool:
        """Whether this process is the owner, as far as is known."""

    def check(self) -> None:
        """Raise `kube.election.NotLeader` unless this process surely is the owner. To be called before each write."""

    async def won(self) -> None:
        """Wait until this process is the owner."""

    async def run(self) -> None:
        """Stand for it, for ever."""


class Alone:
    """No election: this process is the only one for its provider."""

    leading = True

    def check(self) -> None:
        """See `Ownership`."""

    async def won(self) -> None:
        """See `Ownership`."""

    async def run(self) -> None:
        """See `Ownership`."""
        await asyncio.Event().wait()


def lease_name(consumer_id: str) -> str:
    """The Lease that a consumer's virtual kubelets of one provider compete for."""
    return names.label_value(f"isthmus-kinds-{consumer_id}").lower()


class Elected:
    """Ownership by Lease."""

    def __init__(
        self,
        provider: Client,
        *,
        namespace: str,
        consumer_id: str,
        identity: str,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self._elector = LeaderElector(
            provider,
            namespace=namespace,
            name=lease_name(consumer_id),
            identity=identity,
            duration=DURATION,
            retry=RETRY,
            registry=registry,
        )

    @property
    def leading(self) -> bool:
        """See `Ownership`."""
        return self._elector.leading.is_set()

    def check(self) -> None:
        """See `Ownership`."""
        self._elector.check()

    async def won(self) -> None:
        """See `Ownership`."""
        await self._elector.leading.wait()

    async def run(self) -> None:
        """See `Ownership`."""
        await self._elector.run()
