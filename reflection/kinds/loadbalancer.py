"""Load balancers at the provider: the class they get, and their addresses as the consumer's status."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final

from reflection.kinds import marks
from reflection.kinds.model import Context, Json, Refusal

MOST: Final = 16
"""Entries of a status that are taken over: the provider is not trusted with more."""
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*")


def forge(spec: Json, made: Json, context: Context) -> list[Refusal]:
    """Set the class in the provider's Service spec `made`; say what can't be had."""
    named = spec.get("loadBalancerClass") or ""
    known = context.classes.load_balancer
    if named in known:
        if known[named]:
            made["loadBalancerClass"] = known[named]
        return []
    if not named:
        return []
    made["type"] = "ClusterIP"
    for field in ("externalTrafficPolicy", "loadBalancerSourceRanges", "allocateLoadBalancerNodePorts"):
        made.pop(field, None)
    return [
        Refusal(
            "LoadBalancerClassNotMapped",
            f"load balancer class {named!r} has no counterpart at the provider: the Service is reflected as ClusterIP; "
            "map the class on the virtual node",
        )
    ]


def status_back(remote: Json, local: Json, context: Context) -> Json | None:
    """The consumer's `status.loadBalancer`."""
    spec = local.get("spec") or {}
    if spec.get("type") != "LoadBalancer" or (remote.get("spec") or {}).get("type") != "LoadBalancer":
        return None
    mapped = (spec.get("loadBalancerClass") or "") in context.classes.load_balancer
    return take_over(remote, local, context, mapped=mapped)


def take_over(remote: Json, local: Json, context: Context, *, mapped: bool) -> Json | None:
    """The status with the provider's addresses; None where it is not the provider's to say.

    It is if the user says so by the annotation `status-from`, or, without it, if the class is one that stands for the
    provider's (`mapped`): then no controller of the consumer's does the work.
    """
    wish = (local["metadata"].get("annotations") or {}).get(marks.STATUS_FROM, "any" if mapped else "none")
    if wish not in ("any", context.provider):
        return None
    status = dict(local.get("status") or {})
    found = ((remote.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    status["loadBalancer"] = {"ingress": entries(found)}
    return status


def entries(found: Any) -> list[Json]:
    """What is well-formed of `status.loadBalancer.ingress`."""
    clean = []
    for item in found if isinstance(found, list | tuple) else ():
        entry = _entry(item) if isinstance(item, dict) else {}
        if entry:
            clean.append(entry)
    return clean[:MOST]


def _entry(item: Json) -> Json:
    entry: Json = {}
    ip, host = item.get("ip"), item.get("hostname")
    if isinstance(ip, str) and _is_ip(ip):
        entry["ip"] = ip
        if item.get("ipMode") in ("VIP", "Proxy"):
            entry["ipMode"] = item["ipMode"]
    if isinstance(host, str) and _HOST.fullmatch(host):
        entry["hostname"] = host
    return entry


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
