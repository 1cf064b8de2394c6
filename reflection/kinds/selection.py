"""Which objects are reflected: rules of three levels (everywhere, per namespace, per virtual node); each can veto."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from kube.objects import Metadata
from reflection.kinds import marks

_OPERATORS = frozenset({"In", "NotIn", "Exists", "DoesNotExist"})


class RuleError(ValueError):
    """A rule can't be used; the text says why."""


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """metav1.LabelSelector, as k8s.io/apimachinery/pkg/labels matches it. The empty one selects everything."""

    labels: Mapping[str, str] = field(default_factory=dict)
    expressions: tuple[tuple[str, str, frozenset[str]], ...] = ()

    @classmethod
    def parse(cls, given: Mapping[str, Any] | None) -> LabelSelector:
        """Read the JSON of one. Raises `RuleError`."""
        found = given or {}
        expressions = []
        for item in found.get("matchExpressions") or ():
            operator = item.get("operator")
            if operator not in _OPERATORS:
                raise RuleError(f"label selector: unknown operator {operator!r}; there are {sorted(_OPERATORS)}")
            expressions.append((item.get("key", ""), operator, frozenset(item.get("values") or ())))
        return cls(dict(found.get("matchLabels") or {}), tuple(expressions))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether all of it holds."""
        return all(labels.get(key) == value for key, value in self.labels.items()) and all(
            _holds(labels.get(key), operator, values) for key, operator, values in self.expressions
        )


def _holds(value: str | None, operator: str, values: frozenset[str]) -> bool:
    match operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values  # an absent label is not in any set of values
        case "Exists":
            return value is not None
        case _:
            return value is None


@dataclass(frozen=True, slots=True)
class Rule:
    """One level's word on one kind. `allow` and `deny` are object names with `*` and `?`; no `allow`: every name."""

    enabled: bool = True
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    selector: LabelSelector = field(default_factory=LabelSelector)

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Rule:
        """Read `{enabled, allow, deny, labelSelector}`. Raises `RuleError` for anything else."""
        unknown = set(given) - {"enabled", "allow", "deny", "labelSelector"}
        if unknown:
            raise RuleError(f"reflection: unknown setting {sorted(unknown)[0]!r}")
        enabled = given.get("enabled")
        return cls(
            enabled=enabled is None or bool(enabled),
            allow=tuple(given.get("allow") or ()),
            deny=tuple(given.get("deny") or ()),
            selector=LabelSelector.parse(given.get("labelSelector")),
        )

    def permits(self, metadata: Metadata) -> bool:
        """Whether an object may be reflected as far as this level is concerned."""
        name = metadata.name
        if not self.enabled or any(fnmatchcase(name, pattern) for pattern in self.deny):
            return False
        if self.allow and not any(fnmatchcase(name, pattern) for pattern in self.allow):
            return False
        return self.selector.matches(metadata.labels)


Rules = Mapping[str, Rule]
"""By resource name, as `services` or `ingresses.networking.k8s.io`; a kind without a rule is permitted."""


def parse_rules(given: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Rule]:
    """Read the `reflection` field of a NamespaceOffloading or a VirtualNode, or of the configuration."""
    return {kind: Rule.parse(rule) for kind, rule in (given or {}).items()}


def selected(
    name: str, metadata: Metadata, levels: Iterable[Rules], *, any_of: Sequence[Rules] = (), opt_in: bool
) -> bool:
    """Whether an object of the resource `name` is to be reflected: no level forbids it, nor does the object itself.

    Of `any_of`, one that permits it is enough.
    """
    wish = metadata.labels.get(marks.REFLECT) or metadata.annotations.get(marks.REFLECT)
    if wish == "false" or (opt_in and metadata.labels.get(marks.REFLECT) != "true"):
        return False
    if any_of and not any(_permits(rules, name, metadata) for rules in any_of):
        return False
    return all(_permits(rules, name, metadata) for rules in levels)


def _permits(rules: Rules, name: str, metadata: Metadata) -> bool:
    return name not in rules or rules[name].permits(metadata)
