"""What the virtual kubelets of one provider reflect of whole namespaces: the file behind `--reflect-kinds`. Pure.

One of them does it for all, and any of them may be the one, so all get the same: the cluster's own configuration, and
what each VirtualNode of the provider says of classes and in `spec.reflection`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from api.offloading.virtual_node import ClassPair, LoadBalancerPair, VirtualNode

Json = dict[str, Any]


def document(given: Mapping[str, Any], siblings: Sequence[VirtualNode]) -> Json:
    """The configuration (docs/operations.md) for the provider of `siblings`; empty if there is nothing to say.

    Of two that call one class of the consumer differently the first by name counts; what is `given` counts before.
    """
    ordered = sorted(siblings, key=lambda one: one.metadata.name)
    made = dict(given)
    classes: Mapping[str, Any] = given.get("classes") or {}
    named = [one.spec.classes for one in ordered if one.spec.classes is not None]
    merged = {
        "ingress": _pairs(classes.get("ingress") or (), (pair for one in named for pair in one.ingress)),
        "loadBalancer": _pairs(
            classes.get("loadBalancer") or (), (pair for one in named for pair in one.load_balancer)
        ),
    }
    if any(merged.values()):
        made["classes"] = {kind: pairs for kind, pairs in merged.items() if pairs}
    rules = [*(given.get("virtualNodes") or ()), *(msgspec.to_builtins(one.spec.reflection) for one in ordered)]
    if all(rules):  # one without rules lets everything through, and one that does is enough
        made["virtualNodes"] = rules
    else:
        made.pop("virtualNodes", None)
    return made


def _pairs(given: Iterable[Mapping[str, str]], declared: Iterable[ClassPair | LoadBalancerPair]) -> list[Json]:
    found = {pair["consumer"]: pair["provider"] for pair in given}
    for pair in declared:
        found.setdefault(pair.consumer, pair.provider)
    return [{"consumer": consumer, "provider": provider} for consumer, provider in found.items()]
