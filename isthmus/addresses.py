"""Where the network module is plugged in: how addresses of one cluster are seen in the other.

Reflection asks in both directions: what the consumer's objects name (endpoints, networks of policies), as the
provider's pods reach it; and what the provider says of its pods, as the consumer reaches it. Until a network module
says otherwise the network is flat: every address is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from reflection.kinds.model import AddressTranslation, Identity


class Addresses(AddressTranslation, Protocol):
    """Both directions. Answers come from memory, for they are asked for on the way of every pod's status.

    None is for what can't be reached: such an endpoint is left out, a policy that names such a network is refused, and
    a pod with such an address shows none.
    """

    def back(self, address: str) -> str | None:
        """The address of a provider's pod as the consumer reaches it."""

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Have `changed` called, on the event loop, after the answers have changed."""


class Flat(Identity):
    """Every address is the same everywhere, and stays so."""

    def back(self, address: str) -> str | None:
        """See `Addresses`."""
        return address

    def subscribe(self, changed: Callable[[], None]) -> None:
        """See `Addresses`."""
