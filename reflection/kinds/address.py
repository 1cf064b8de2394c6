"""The provider-side address of a Service, as a condition of the consumer's, where the user asks for it.

A Service has a status of its own for load balancers only. What the others have at the provider, a cluster IP and node
ports, is told by a condition whose type names the provider, so several providers can tell theirs.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from reflection.forge.names import PREFIX, label_value
from reflection.kinds import marks
from reflection.kinds.model import Context, Json

_REASON: Final = "Reflected"
_MOST: Final = 32
"""Addresses and ports that are told of: the provider is not trusted with more, nor with other than these."""
_PROTOCOLS: Final = ("TCP", "UDP", "SCTP")


def condition_type(provider: str) -> str:
    """The condition's type."""
    return f"{PREFIX}at-{label_value(provider)[:60]}"


def conditions(remote: Json, local: Json, context: Context) -> list[Json] | None:
    """All conditions that the consumer's Service shall have; None to leave them. Without a remote Service ours goes."""
    before: list[Json] = (local.get("status") or {}).get("conditions") or []
    kind = condition_type(context.provider)
    others = [one for one in before if one.get("type") != kind]
    wish = (local["metadata"].get("annotations") or {}).get(marks.STATUS_FROM, "none")
    balanced = (local.get("spec") or {}).get("type") == "LoadBalancer"
    message = _message(remote) if wish in ("any", context.provider) and not balanced else ""
    made = [*others, _condition(kind, message, remote)] if message else others
    return made if made != before else None


def _condition(kind: str, message: str, remote: Json) -> Json:
    return {
        "type": kind,
        "status": "True",
        "reason": _REASON,
        "message": message,
        "lastTransitionTime": remote["metadata"]["creationTimestamp"],
    }


def _message(remote: Json) -> str:
    spec = remote.get("spec") or {}
    addresses = [text for text in (spec.get("clusterIPs") or ())[:_MOST] if _is_ip(text)]
    parts = [f"cluster IP {', '.join(addresses)}"] if addresses else []
    ports = [text for port in (spec.get("ports") or ())[:_MOST] if (text := _port(port))]
    parts += [f"node ports {', '.join(ports)}"] if ports else []
    return "; ".join(parts)


def _port(port: Any) -> str:
    given = port if isinstance(port, dict) else {}
    number, there, protocol = given.get("port"), given.get("nodePort"), given.get("protocol") or "TCP"
    if not isinstance(number, int) or not isinstance(there, int) or protocol not in _PROTOCOLS:
        return ""
    return f"{number}:{there}/{protocol}"


def _is_ip(text: Any) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return isinstance(text, str)
