"""Every kind there is: one row each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from reflection.kinds.configmap import CONFIG_MAP
from reflection.kinds.disruptionbudget import POD_DISRUPTION_BUDGET
from reflection.kinds.endpointslice import ENDPOINT_SLICE
from reflection.kinds.ingress import INGRESS
from reflection.kinds.model import Kind
from reflection.kinds.networkpolicy import NETWORK_POLICY
from reflection.kinds.secret import SECRET
from reflection.kinds.service import SERVICE
from reflection.kinds.serviceaccount import SERVICE_ACCOUNT

KINDS: Final[tuple[Kind, ...]] = (
    SERVICE,
    ENDPOINT_SLICE,
    INGRESS,
    CONFIG_MAP,
    SECRET,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    SERVICE_ACCOUNT,
)

DEFAULT: Final = tuple(kind for kind in KINDS if kind.by_default)
"""What is reflected where the configuration does not say otherwise."""


def named(names: Iterable[str]) -> tuple[Kind, ...]:
    """The kinds of these resource names. ValueError for one that is not in the table."""
    wanted = frozenset(names)
    unknown = wanted - {kind.resource_name for kind in KINDS}
    if unknown:
        known = ", ".join(kind.resource_name for kind in KINDS)
        raise ValueError(f"no such kind: {sorted(unknown)[0]!r}; there are {known}")
    return tuple(kind for kind in KINDS if kind.resource_name in wanted)
