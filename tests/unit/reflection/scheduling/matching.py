"""A small scheduler for tests: which node labels a pod's required node affinity accepts, and JSON patches applied."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """As k8s.io/apimachinery/pkg/labels.Requirement.Matches."""
    key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
    match operator:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return key not in labels or labels[key] not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case "Gt" | "Lt":
            if not labels.get(key, "").isdigit():
                return False
            difference = int(labels[key]) - int(values[0])
            return difference > 0 if operator == "Gt" else difference < 0
    raise AssertionError(operator)


def term_accepts(term: Mapping[str, Any], labels: Mapping[str, str], *, name: str) -> bool:
    """As nodeaffinity.nodeSelectorTerm.match: an empty term accepts nothing."""
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    named = {"metadata.name": name}
    return all(holds(one, labels) for one in expressions) and all(holds(one, named) for one in fields)


def accepts(pod: Mapping[str, Any], labels: Mapping[str, str], *, name: str = "n") -> bool:
    """Whether the pod's required node affinity allows a node."""
    node = ((pod["spec"].get("affinity") or {}).get("nodeAffinity")) or {}
    required = node.get(_REQUIRED)
    if required is None:
        return True
    return any(term_accepts(term, labels, name=name) for term in required.get("nodeSelectorTerms") or [])


def patched(document: Mapping[str, Any], operations: Sequence[Mapping[str, Any]]) -> Json:
    """The document after `add` operations of RFC 6902; a parent that is not there is an error, as at the server."""
    made: Any = copy.deepcopy(dict(document))
    for operation in operations:
        assert operation["op"] in ("add", "remove")
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        target = made
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target[part]
        if operation["op"] == "remove":
            del target[last]
            continue
        value = copy.deepcopy(operation["value"])
        if isinstance(target, list):
            assert last == "-"
            target.append(value)
        else:
            target[last] = value
    result: Json = made
    return result
