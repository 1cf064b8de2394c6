"""ExternalAddresses: an address for each, kept in its status before gateways hear of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from api.meta import Condition, with_condition
from api.networking.definitions import EXTERNAL_ADDRESSES
from api.networking.external_address import ExternalAddress, ExternalAddressStatus
from kube.client import Client
from kube.errors import ApiError
from netfabric.controller import declared
from netfabric.controller.writing import write_status
from netfabric.plan import external
from netfabric.plan.model import Own, Plan, Problem

Exports = dict[str, tuple[str, str, tuple[str, ...]]]
"""By name: what stands for it, where it is, and the peers that may reach it (none: all)."""


class ExternalStatuses:
    """Plans and writes."""

    def __init__(self, client: Client, *, check: Callable[[], None]) -> None:
        self._client = client
        self._check = check

    async def keep(self, own: Own, plan: Plan, found: Sequence[ExternalAddress]) -> Exports:
        """Those that have an address which their status holds. Raises `KubeError`."""
        living = [one for one in found if one.metadata.deletion_timestamp is None]
        foreign = [one.mapping.inner for peer in plan.peers.values() for one in peer.networks]
        planned = external.allocate(own, map(declared.external_input, living), foreign=foreign)
        made: Exports = {}
        for one in living:
            given = planned[one.metadata.name]
            try:
                await write_status(
                    self._client,
                    EXTERNAL_ADDRESSES,
                    one.metadata,
                    old=one.status,
                    new=status(one, given),
                    check=self._check,
                )
            except ApiError as error:
                if error.not_found:
                    continue
                raise
            if isinstance(given, str):
                made[one.metadata.name] = (given, one.spec.address, one.spec.peers)
        return made


def status(one: ExternalAddress, given: str | Problem) -> ExternalAddressStatus:
    """The new status."""
    if isinstance(given, Problem):
        told = Condition(type="Ready", status="False", reason=given.reason, message=given.message)
    else:
        told = Condition(type="Ready", status="True", reason="Announced", message=f"peers reach it at {given}")
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = with_condition(one.status.conditions, told, now=now)
    return ExternalAddressStatus(
        observed_generation=one.metadata.generation,
        conditions=conditions,
        address=given if isinstance(given, str) else "",
    )
