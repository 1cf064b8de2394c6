"""Label selectors as terms of a pod's node affinity, and what they say of given labels. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from api.meta import LabelSelector, SelectorRequirement

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


def of(selector: LabelSelector | None) -> Requirements:
    """A label selector's requirements; none where there is no selector, which selects all. Raises `SelectorError`."""
    if selector is None:
        return ()
    equal = [Requirement(key, "In", (value,)) for key, value in sorted(selector.match_labels.items())]
    return (*equal, *(_requirement(one) for one in selector.match_expressions))


def _requirement(one: SelectorRequirement) -> Requirement:
    """The CRD's schema can't say which operators have values."""
    if bool(one.values) == (one.operator in _VALUELESS):
        raise SelectorError(f"{one.key}: operator {one.operator} needs {'no' if one.values else 'at least one'} value")
    return Requirement(one.key, one.operator, one.values)


def accepts(requirements: Requirements, labels: Mapping[str, str]) -> bool:
    """Whether all requirements hold."""
    return all(one.accepts(labels) for one in requirements)
