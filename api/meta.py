"""What our objects share: metav1.Condition, durations, quantities, selectors, and how a field is described.

A field's description becomes the CRD's, so `kubectl explain` shows it: a full sentence each.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
"""RFC 1123 label, as Kubernetes has it."""
QUALIFIED_NAME = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"
"""A label's key, as load balancer classes are (apimachinery, IsQualifiedName)."""
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
"""resource.Quantity without signs and exponents: what people write."""
DURATION = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
"""metav1.Duration without signs."""

_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

Quantity = Annotated[str | int, Meta(extra_json_schema={"pattern": QUANTITY, "x-kubernetes-int-or-string": True})]
"""A resource.Quantity, as text or as a whole number."""
Duration = Annotated[str, Meta(pattern=DURATION, max_length=32)]


class Condition(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """metav1.Condition."""

    type: Annotated[str, Meta(description="Type names what the condition is about.", max_length=316)]
    status: Annotated[
        Literal["True", "False", "Unknown"], Meta(description="Status tells whether the condition holds.")
    ]
    reason: Annotated[
        str, Meta(description="Reason is one word in CamelCase for programs to act on.", max_length=1024)
    ] = ""
    message: Annotated[
        str, Meta(description="Message says in full what is the case and what to do about it.", max_length=32768)
    ] = ""
    last_transition_time: Annotated[
        str,
        Meta(
            description="LastTransitionTime is when the status changed last.", extra_json_schema={"format": "date-time"}
        ),
    ] = ""
    observed_generation: Annotated[
        int, Meta(description="ObservedGeneration is the generation of the object that the condition speaks of.")
    ] = 0


Conditions = Annotated[
    tuple[Condition, ...],
    Meta(
        description="Conditions tell how the object is, each with a reason that a person can act on.",
        extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class SelectorRequirement(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """metav1.LabelSelectorRequirement."""

    key: Annotated[str, Meta(description="Key is the label that is looked at.", max_length=317)]
    operator: Annotated[
        Literal["In", "NotIn", "Exists", "DoesNotExist"],
        Meta(description="Operator says how the label's value relates to the values."),
    ]
    values: Annotated[
        tuple[Annotated[str, Meta(max_length=63)], ...],
        Meta(description="Values are what In and NotIn compare with; the other operators have none."),
    ] = ()


class LabelSelector(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """metav1.LabelSelector; an empty one selects everything."""

    match_labels: Annotated[
        dict[str, Annotated[str, Meta(max_length=63)]],
        Meta(description="MatchLabels are labels that an object must have with these values."),
    ] = {}
    match_expressions: Annotated[
        tuple[SelectorRequirement, ...], Meta(description="MatchExpressions are requirements that must all hold.")
    ] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether an object with these labels is selected (apimachinery pkg/labels: NotIn holds without the label)."""
        wanted = all(labels.get(key) == value for key, value in self.match_labels.items())
        return wanted and all(_holds(requirement, labels) for requirement in self.match_expressions)


def _holds(requirement: SelectorRequirement, labels: dict[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case _:
            return value is None


def seconds(duration: str) -> float:
    """A metav1.Duration such as ``1m30s`` in seconds. Raises ValueError."""
    if not re.fullmatch(DURATION, duration):
        raise ValueError(f"{duration!r} is no duration: write for example 90s, 5m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(duration))


def condition(conditions: Sequence[Condition], kind: str) -> Condition | None:
    """The condition of this type."""
    return next((one for one in conditions if one.type == kind), None)


def with_condition(conditions: Sequence[Condition], new: Condition, *, now: str) -> tuple[Condition, ...]:
    """The conditions with `new` in place of its type's; its time is `now` only when the status changes.

    `now` is RFC 3339. Other conditions keep their place and content, whoever wrote them.
    """
    old = condition(conditions, new.type)
    since = old.last_transition_time if old is not None and old.status == new.status else now
    made = msgspec.structs.replace(new, last_transition_time=since)
    if old is None:
        return (*conditions, made)
    return tuple(made if one.type == new.type else one for one in conditions)


def rule(expression: str, message: str, **more: Any) -> dict[str, Any]:
    """One CEL validation (x-kubernetes-validations) for a field's or type's `extra_json_schema`."""
    return {"rule": expression, "message": message, **more}
