"""NetworkPolicy: copied where the provider's network can hold to it as it is meant, refused with the reason otherwise.

Pods keep their labels at the provider, so `podSelector` selects the same pods there, as far as they are there: as a
peer it does not match pods that live elsewhere, whose traffic the copy therefore does not allow. That errs on the safe
side and is told once. Namespaces have other names and labels at the provider, and other tenants' namespaces beside
them: of `namespaceSelector` only the name of an offloaded namespace can be translated; anything wider could let
strangers in, and refuses the policy. Networks (`ipBlock`) go through the translation of addresses.
"""

from __future__ import annotations

from typing import Any, Final

from kube.resources import Resource
from reflection.kinds.model import Context, Copy, Forged, Json, Kind, Refusal

NETWORK_POLICIES: Final = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
NAME_LABEL: Final = "kubernetes.io/metadata.name"
"""The label that the API server gives every namespace: its name."""


class _CannotHold(Exception):  # noqa: N818 - an answer, not a failure
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def forge(local: Json, context: Context) -> Forged:
    """The provider's NetworkPolicy."""
    spec = local.get("spec") or {}
    made: Json = {"podSelector": spec.get("podSelector") or {}}
    if spec.get("policyTypes"):
        made["policyTypes"] = spec["policyTypes"]
    try:
        for direction, side in (("ingress", "from"), ("egress", "to")):
            if spec.get(direction) is not None:
                made[direction] = [_rule(rule, side, context) for rule in spec[direction]]
    except _CannotHold as why:
        return Refusal("NetworkPolicyNotReflected", f"{why.message}; offloaded pods are not under this policy")
    notes = (_ELSEWHERE,) if _names_pods(made) else ()
    return Copy({"spec": made}, notes=notes)


_ELSEWHERE: Final = Refusal(
    "NetworkPolicyPeersElsewhere",
    "peers that are selected by label are matched at the provider only: its network does not let in or out what comes "
    "from or goes to such pods elsewhere",
)


def _names_pods(made: Json) -> bool:
    peers = [
        peer
        for direction, side in (("ingress", "from"), ("egress", "to"))
        for rule in made.get(direction) or ()
        for peer in rule.get(side) or ()
    ]
    return any("podSelector" in peer or "namespaceSelector" in peer for peer in peers)


def _rule(rule: Json, side: str, context: Context) -> Json:
    made: Json = {key: value for key, value in rule.items() if key != side}
    if rule.get(side):  # without peers: everybody
        made[side] = [_peer(peer, context) for peer in rule[side]]
    return made


def _peer(peer: Json, context: Context) -> Json:
    if peer.get("ipBlock") is not None:
        return {"ipBlock": _block(peer["ipBlock"], context)}
    made: Json = {}
    if peer.get("podSelector") is not None:
        made["podSelector"] = peer["podSelector"]
    if peer.get("namespaceSelector") is not None:
        made["namespaceSelector"] = _namespaces(peer["namespaceSelector"], context)
    if not made:
        raise _CannotHold("it has a peer of a sort that is not known")
    return made


def _block(block: Json, context: Context) -> Json:
    made: Json = {"cidr": _network(block.get("cidr", ""), context)}
    if block.get("except"):
        made["except"] = [_network(cidr, context) for cidr in block["except"]]
    return made


def _network(cidr: str, context: Context) -> str:
    found = context.translation.network(cidr)
    if found is None:
        raise _CannotHold(f"network {cidr} has no counterpart at the provider")
    return found


def _namespaces(selector: Json, context: Context) -> Json:
    names = _named(selector)
    if names is None:
        raise _CannotHold(
            f"a namespaceSelector can be told to the provider only as {NAME_LABEL}, of offloaded namespaces"
        )
    missing = [name for name in names if name not in context.namespaces]
    if missing:
        raise _CannotHold(f"namespace {missing[0]!r} is not offloaded to this provider")
    remote = [context.namespaces[name] for name in names]
    if len(remote) == 1:
        return {"matchLabels": {NAME_LABEL: remote[0]}}
    return {"matchExpressions": [{"key": NAME_LABEL, "operator": "In", "values": remote}]}


def _named(selector: Json) -> list[str] | None:
    """The namespaces that a selector names, if it does just that."""
    labels: Json = selector.get("matchLabels") or {}
    expressions: list[Any] = selector.get("matchExpressions") or []
    if labels.keys() == {NAME_LABEL} and not expressions:
        return [labels[NAME_LABEL]]
    if not labels and len(expressions) == 1:
        only = expressions[0]
        if only.get("key") == NAME_LABEL and only.get("operator") == "In":
            return list(only.get("values") or ())
    return None


NETWORK_POLICY = Kind(resource=NETWORK_POLICIES, parts=("spec",), forge=forge)
