"""Label selectors as terms of a pod's node affinity, and what they say of given labels. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Operator = Literal["In", "NotIn", "Exists", "DoesNotExist"]

_VALUELESS: Final = frozenset({"Exists", "DoesNotExist"})


class SelectorError(ValueError):
    """A label selector can't be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one label has to be. The four operators mean the same in label selectors and in node affinity."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def accepts(self, labels: Mapping[str, str]) -> bool:
        """Whether it holds. An absent label is never In, and always NotIn (apimachinery, pkg/labels)."""
        value = labels.get(self.key)
        if self.operator == "In":
            return value in self.values
        if self.operator == "NotIn":
            return value not in self.values
        return (value is not None) == (self.operator == "Exists")

    def expression(self) -> dict[str, Any]:
        """As v1.NodeSelectorRequirement."""
        made: dict[str, Any] = {"key": self.key, "operator": self.operator}
        return {**made, "values": list(self.values)} if self.values else made


Requirements = tuple[Requirement, ...]
"""All of them have to hold."""


def parse(labels: Mapping[str, str], expressions: Iterable[Mapping[str, Any]]) -> Requirements:
    """The two parts of a metav1.LabelSelector. Raises `SelectorError`."""
    equal = [Requirement(key, "In", (value,)) for key, value in sorted(labels.items())]
    return (*equal, *(_requirement(one) for one in expressions))


def _requirement(expression: Mapping[str, Any]) -> Requirement:
    key, operator, values = str(expression.get("key")), expression.get("operator"), expression.get("values") or ()
    if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
        raise SelectorError(f"{key}: operator {operator!r}; use In, NotIn, Exists or DoesNotExist")
    if bool(values) == (operator in _VALUELESS):
        raise SelectorError(f"{key}: operator {operator} needs {'no' if values else 'at least one'} value")
    return Requirement(key, operator, tuple(str(value) for value in values))


def accepts(requirements: Requirements, labels: Mapping[str, str]) -> bool:
    """Whether all requirements hold."""
    return all(one.accepts(labels) for one in requirements)
