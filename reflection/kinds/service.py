"""Service: as at the consumer, but for what only has a meaning there.

Cluster IPs are always the provider's own. The selector travels: the provider's own controllers make EndpointSlices of
the remote pods it selects (labels travel with pods), and the slices that we add hold the endpoints that live elsewhere
(`reflection.kinds.endpointslice`). Node ports are the provider's unless the user asks to keep them.
"""

from __future__ import annotations

from typing import Any, Final

from kube.resources import SERVICES
from reflection.kinds import address, loadbalancer, marks
from reflection.kinds.model import Context, Copy, Forged, Json, Kind, Refusal

_CARRIED: Final = (
    "selector",
    "sessionAffinity",
    "sessionAffinityConfig",
    "externalTrafficPolicy",
    "internalTrafficPolicy",
    "trafficDistribution",
    "publishNotReadyAddresses",
    "ipFamilyPolicy",
    "loadBalancerSourceRanges",
    "allocateLoadBalancerNodePorts",
)
"""ServiceSpec, k8s.io/api/core/v1: what means the same at the provider. Not: clusterIP(s), loadBalancerIP,
healthCheckNodePort."""
_PORT: Final = ("name", "protocol", "appProtocol", "port", "targetPort")
_API_SERVER: Final = ("default", "kubernetes")


def forge(local: Json, context: Context) -> Forged:
    """The provider's Service."""
    spec, meta = local.get("spec") or {}, local["metadata"]
    if (meta["namespace"], meta["name"]) == _API_SERVER:
        return None
    kind = spec.get("type", "ClusterIP")
    if kind == "ExternalName":
        return _external_name(spec, context)
    notes: list[Refusal] = []
    made: Json = {key: spec[key] for key in _CARRIED if spec.get(key) is not None}
    made["type"] = kind
    made["ports"] = _ports(meta, spec)
    if _headless(spec):
        made["clusterIP"] = "None"
    families = [family for family in spec.get("ipFamilies") or () if not context.families or family in context.families]
    if families:
        made["ipFamilies"] = families
    if kind == "LoadBalancer":
        notes += loadbalancer.forge(spec, made, context)
    if spec.get("externalIPs"):
        if context.external_ips:
            made["externalIPs"] = spec["externalIPs"]
        else:
            notes.append(
                Refusal("ExternalIPsNotReflected", "spec.externalIPs are left out: the provider does not allow them")
            )
    return Copy({"spec": made}, notes=tuple(notes))


def _external_name(spec: Json, context: Context) -> Forged:
    if not context.external_names:
        return Refusal(
            "ExternalNameNotReflected",
            "a Service of type ExternalName is not reflected: the provider does not allow them",
        )
    ports = {"ports": spec["ports"]} if spec.get("ports") else {}
    return Copy({"spec": {"type": "ExternalName", "externalName": spec.get("externalName", ""), **ports}})


def _headless(spec: Json) -> bool:
    return spec.get("clusterIP") == "None"


def _ports(meta: Json, spec: Json) -> list[Json]:
    keep = (meta.get("annotations") or {}).get(marks.KEEP_NODE_PORT) == "true"
    fields = (*_PORT, "nodePort") if keep else _PORT
    return [{key: port[key] for key in fields if port.get(key) is not None} for port in spec.get("ports") or ()]


def recreate(wanted: Json, current: Json) -> bool:
    """Whether fields change that the API server holds fast (ValidateServiceUpdate): cluster IP or not, first family,
    load balancer class."""
    new, old = wanted["spec"], current.get("spec") or {}
    if "ExternalName" in (new.get("type"), old.get("type")):
        return False
    if _headless(new) != _headless(old):
        return True
    both = new.get("type") == old.get("type") == "LoadBalancer"
    if both and new.get("loadBalancerClass") != old.get("loadBalancerClass"):
        return True
    return _first(new) is not None and _first(old) is not None and _first(new) != _first(old)


def _first(spec: Json) -> Any:
    families = spec.get("ipFamilies") or (None,)
    return families[0]


def status_back(remote: Json, local: Json, context: Context) -> Json | None:
    """The consumer's status: of a load balancer its addresses, of others where asked a condition with theirs."""
    status = loadbalancer.status_back(remote, local, context)
    conditions = address.conditions(remote, local, context)
    if conditions is not None:
        status = {**(local.get("status") or {}), **(status or {}), "conditions": conditions}
    return status


def status_gone(local: Json, context: Context) -> Json | None:
    """The consumer's status without what was told of a copy that is no more."""
    conditions = address.conditions({}, local, context)
    return None if conditions is None else {**(local.get("status") or {}), "conditions": conditions}


SERVICE = Kind(
    resource=SERVICES,
    parts=("spec",),
    forge=forge,
    status_back=status_back,
    status_gone=status_gone,
    recreate=recreate,
)
