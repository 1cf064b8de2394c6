"""ServiceAccount: its name and labels only, where something at the provider asks for an account of that name.

It has no rights there and mints no tokens for pods. Annotations stay at home: clouds grant their roles by them.
"""

from __future__ import annotations

from kube.resources import SERVICE_ACCOUNTS
from reflection.kinds.model import Context, Copy, Forged, Json, Kind


def forge(local: Json, _context: Context) -> Forged:
    """The provider's ServiceAccount; every namespace has its own `default`."""
    if local["metadata"]["name"] == "default":
        return None
    return Copy({"automountServiceAccountToken": False}, annotations={})


SERVICE_ACCOUNT = Kind(
    resource=SERVICE_ACCOUNTS, parts=("automountServiceAccountToken",), forge=forge, opt_in=True, by_default=False
)
