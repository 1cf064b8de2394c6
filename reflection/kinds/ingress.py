"""Ingress: for the provider's ingress controllers, if the class is mapped to one of theirs.

An Ingress whose class has no counterpart is for the consumer's controllers, which reach offloaded pods like any others:
it stays at home without a word while no class is mapped at all, and with one where some are. TLS Secrets come along
because the Ingress names them. The addresses come back as status: nobody at the consumer serves a mapped class.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kube.resources import Resource
from reflection.kinds import loadbalancer
from reflection.kinds.model import Context, Copy, Forged, Json, Kind, Reference, Refusal

INGRESSES: Final = Resource("networking.k8s.io", "v1", "ingresses", "Ingress")
CLASS_ANNOTATION: Final = "kubernetes.io/ingress.class"
"""What named the class before `spec.ingressClassName`; still honoured by controllers."""
_CARRIED: Final = ("defaultBackend", "rules", "tls")


def forge(local: Json, context: Context) -> Forged:
    """The provider's Ingress."""
    spec, annotations = local.get("spec") or {}, local["metadata"].get("annotations") or {}
    known = context.classes.ingress
    named = class_of(local)
    if named not in known:
        return _unmapped(named) if known else None
    made: Json = {key: spec[key] for key in _CARRIED if spec.get(key)}
    if known[named]:
        made["ingressClassName"] = known[named]
    return Copy({"spec": made}, annotations={k: v for k, v in annotations.items() if k != CLASS_ANNOTATION})


def class_of(local: Json) -> str:
    """The class that an Ingress names; empty if none."""
    annotations = local["metadata"].get("annotations") or {}
    return str((local.get("spec") or {}).get("ingressClassName") or annotations.get(CLASS_ANNOTATION) or "")


def _unmapped(named: str) -> Refusal:
    which = f"ingress class {named!r}" if named else "an Ingress without a class"
    return Refusal("IngressClassNotMapped", f"{which} has no counterpart at the provider; map it on the virtual node")


def references(local: Json) -> Iterable[Reference]:
    """The TLS Secrets."""
    for tls in (local.get("spec") or {}).get("tls") or ():
        if tls.get("secretName"):
            yield Reference("secrets", tls["secretName"])


def status_back(remote: Json, local: Json, context: Context) -> Json | None:
    """The addresses of the provider's load balancers."""
    return loadbalancer.take_over(remote, local, context, mapped=True)


INGRESS = Kind(
    resource=INGRESSES,
    parts=("spec",),
    forge=forge,
    status_back=status_back,
    refers=references,
)
