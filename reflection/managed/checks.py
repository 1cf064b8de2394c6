"""What a consumer's pod may not ask of a managed provider. Pure.

It does not rest on the consumer's own forging: whatever that would drop or refuse (`reflection.forge.fields`) is
refused here if it comes all the same, and so is what pod security's baseline forbids, should the API server's own
admission be switched off. Fields that this version does not know are refused: what they do is not known either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kube.quantities import ZERO, Quantity, QuantityError
from reflection.forge import fields, names
from reflection.forge.fields import Rules, Treatment
from reflection.forge.walk import is_set
from reflection.managed import security
from reflection.managed.names import APPLIED, SHADOW_LABEL
from reflection.managed.settings import Limits
from reflection.managed.usage import usage

Json = Mapping[str, Any]

PLATFORM_KEYS: Final = frozenset({"kubernetes.io/os", "kubernetes.io/arch"})
DEFAULT_ACCOUNT: Final = "default"
_OWN_LABELS: Final = frozenset({names.NODE_LABEL, names.CONSUMER_LABEL})
"""Labels of isthmus that a consumer may send; the provider sets the second itself."""
_CONTAINERS: Final = (
    ("initContainers", fields.CONTAINER),
    ("containers", fields.CONTAINER),
    ("ephemeralContainers", fields.EPHEMERAL_CONTAINER),
)
_CHECKED_HERE: Final = frozenset({"runtimeClassName", "priorityClassName", "serviceAccountName", "serviceAccount"})
_FOREIGN_TOKENS: Final = "tokens of the provider's service accounts are not for consumers' pods"
_UNKNOWN: Final = "this field is not known to the provider's version of isthmus, so it may not be used"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is not allowed: the field's path in the pod, and why."""

    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


def check(pod: Json, *, consumer_id: str, limits: Limits) -> list[Violation]:
    """All that is wrong with a pod, `{metadata: {labels, annotations}, spec}`, in the order of its fields."""
    return list(_all(pod, consumer_id, limits)) or list(_size(_object(pod.get("spec")), limits))


def _all(pod: Json, consumer_id: str, limits: Limits) -> Iterator[Violation]:
    metadata, spec = _object(pod.get("metadata")), _object(pod.get("spec"))
    yield from _labels(_object(metadata.get("labels")), consumer_id)
    yield from _annotations(_object(metadata.get("annotations")), limits)
    yield from _follow(spec, fields.POD_SPEC, "spec", skip=_CHECKED_HERE)
    yield from _identity(spec, limits)
    yield from _nodes(spec, limits)
    if not all(isinstance(part, Mapping) for part in _parts(spec.get("resources"))):
        yield Violation("spec.resources", "is no mapping")
    yield from _follow(_object(spec.get("affinity")), fields.AFFINITY, "spec.affinity")
    yield from _volumes(spec.get("volumes"))
    yield from _violations(security.pod(spec, "spec"))
    for key, rules in _CONTAINERS:
        yield from _well_formed(spec.get(key), f"spec.{key}")
        for index, container in enumerate(_objects(spec.get(key))):
            yield from _container(container, rules, f"spec.{key}[{index}]")


def _well_formed(containers: object, path: str) -> Iterator[Violation]:
    """The API server of a ShadowPod knows nothing of pods: what later steps rely on is looked at here."""
    if containers is not None and not isinstance(containers, list):
        yield Violation(path, "is no list")
        return
    for index, container in enumerate(containers or ()):
        if not isinstance(container, Mapping) or not isinstance(container.get("name"), str):
            yield Violation(f"{path}[{index}]", "is no container with a name")
        elif not all(isinstance(part, Mapping) for part in _parts(container.get("resources"))):
            yield Violation(f"{path}[{index}].resources", "is no mapping")


def _parts(resources: object) -> list[object]:
    """What must be a mapping of a container's resources."""
    if not isinstance(resources, Mapping):
        return [resources or {}]
    return [resources.get(key) or {} for key in ("limits", "requests")]


def _labels(labels: Json, consumer_id: str) -> Iterator[Violation]:
    own = {names.CONSUMER_LABEL: names.label_value(consumer_id)}
    for key, value in labels.items():
        if not names.is_ours(key):
            continue
        if key not in _OWN_LABELS or value != own.get(key, value):
            yield Violation(f"metadata.labels[{key}]", "labels of isthmus are set by the provider")


def _annotations(annotations: Json, limits: Limits) -> Iterator[Violation]:
    for key in annotations:
        if key in (APPLIED, SHADOW_LABEL):
            yield Violation(f"metadata.annotations[{key}]", "it is set by the provider")
        elif key.startswith(limits.annotations):
            yield Violation(f"metadata.annotations[{key}]", "it speaks to the provider's nodes or network")


def _identity(spec: Json, limits: Limits) -> Iterator[Violation]:
    for field in ("serviceAccountName", "serviceAccount"):
        if spec.get(field) not in (None, "", DEFAULT_ACCOUNT):
            yield Violation(f"spec.{field}", "service accounts of the provider are not for consumers' pods")
    if spec.get("automountServiceAccountToken"):
        yield Violation("spec.automountServiceAccountToken", _FOREIGN_TOKENS)
    if (priority := spec.get("priorityClassName")) and str(priority) not in limits.priority_classes:
        yield Violation("spec.priorityClassName", f"{priority!r} is not among the classes that the provider allows")
    if (runtime := spec.get("runtimeClassName")) and str(runtime) not in limits.runtime_classes:
        yield Violation("spec.runtimeClassName", f"{runtime!r} is not among the classes that the provider allows")


def _nodes(spec: Json, limits: Limits) -> Iterator[Violation]:
    """By which of the provider's node labels a pod chooses."""
    if limits.node_labels is None:
        return
    why = "nodes may not be selected by this label; the provider allows "
    allowed = limits.node_labels | PLATFORM_KEYS
    for key in _object(spec.get("nodeSelector")):
        if key not in allowed:
            yield Violation(f"spec.nodeSelector[{key}]", why + ", ".join(sorted(allowed)))
    required = _object(_object(spec.get("affinity")).get("nodeAffinity"))
    terms = _object(required.get("requiredDuringSchedulingIgnoredDuringExecution")).get("nodeSelectorTerms")
    for index, term in enumerate(_objects(terms)):
        for kind in ("matchExpressions", "matchFields"):
            for number, wanted in enumerate(_objects(term.get(kind))):
                if wanted.get("key") not in allowed:
                    path = f"spec.affinity.nodeAffinity.nodeSelectorTerms[{index}].{kind}[{number}]"
                    yield Violation(path, why + ", ".join(sorted(allowed)))


def _size(spec: Json, limits: Limits) -> Iterator[Violation]:
    """How much one pod may ask for. Only of a pod that is well-formed."""
    if not limits.pod_resources:
        return
    try:
        asked = usage(spec).requests
    except QuantityError as error:
        yield Violation("spec.containers", str(error))
        return
    for name, most in limits.pod_resources.items():
        if asked.get(name, ZERO) > Quantity.parse(most):
            yield Violation("spec.containers", f"the pod requests {asked[name]} of {name}, and one may have {most}")


def _volumes(volumes: object) -> Iterator[Violation]:
    for index, volume in enumerate(_objects(volumes)):
        path = f"spec.volumes[{index}]"
        yield from _follow(volume, fields.VOLUME, path)
        projected = _object(volume.get("projected"))
        yield from _follow(projected, fields.PROJECTED, f"{path}.projected")
        for number, source in enumerate(_objects(projected.get("sources"))):
            where = f"{path}.projected.sources[{number}]"
            yield from _follow(source, fields.VOLUME_PROJECTION, where, skip={"serviceAccountToken"})
            if "serviceAccountToken" in source:
                yield Violation(f"{where}.serviceAccountToken", _FOREIGN_TOKENS)


def _container(container: Json, rules: Rules, path: str) -> Iterator[Violation]:
    yield from _follow(container, rules, path)
    if _object(container.get("resources")).get("claims"):
        yield Violation(f"{path}.resources.claims", fields.POD_SPEC["resourceClaims"].why)
    yield from _violations(security.container(container, path))


def _follow(value: Json, rules: Rules, path: str, *, skip: Iterable[str] = ()) -> Iterator[Violation]:
    """Go by the table of fields: what forging copies or translates may come, nothing else that asks for anything."""
    for key, content in value.items():
        if key in skip or not is_set(content):
            continue
        rule = rules.get(key)
        if rule is None:
            yield Violation(f"{path}.{key}", _UNKNOWN)
        elif rule.treatment in (Treatment.DROP, Treatment.REFUSE):
            yield Violation(f"{path}.{key}", "a consumer's pod may not set this at the provider")


def _violations(found: Iterable[tuple[str, str]]) -> Iterator[Violation]:
    return (Violation(field, reason) for field, reason in found)


def _object(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _objects(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
