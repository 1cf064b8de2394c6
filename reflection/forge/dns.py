"""How a remote pod finds names: as a kubelet sets it up (pkg/kubelet/network/dns/dns.go), with the consumer's names.

Without a server that knows the consumer's names (`isthmus dns`) the provider's kubelets set it up with theirs: then
short names are found, and longer ones where the namespace is called the same there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from reflection.forge.model import ForgeContext, Json

_BY_CLUSTER: Final = frozenset({"", "ClusterFirst", "ClusterFirstWithHostNet"})
MOST_SERVERS: Final = 3
MOST_SEARCHES: Final = 32
"""MaxDNSNameservers and MaxDNSSearchPaths, pkg/apis/core/validation."""


def name_service(spec: Json, *, namespace: str, context: ForgeContext) -> dict[str, Any]:
    """The fields dnsPolicy and dnsConfig of the remote pod, where they are not the user's own."""
    if not context.dns_servers or (spec.get("dnsPolicy") or "") not in _BY_CLUSTER:
        return {}
    users: Json = spec.get("dnsConfig") or {}
    domain = context.cluster_domain
    options = {option.get("name"): option for option in ({"name": "ndots", "value": "5"}, *_list(users, "options"))}
    made: dict[str, Any] = {
        "nameservers": _first((*context.dns_servers, *_list(users, "nameservers")), MOST_SERVERS),
        "searches": _first(
            (f"{namespace}.svc.{domain}", f"svc.{domain}", domain, *_list(users, "searches")), MOST_SEARCHES
        ),
        "options": list(options.values()),
    }
    return {"dnsPolicy": "None", "dnsConfig": made}


def _list(users: Json, field: str) -> list[Any]:
    return list(users.get(field) or ())


def _first(found: Iterable[str], most: int) -> list[str]:
    return list(dict.fromkeys(found))[:most]
