"""Which pods no provider could run, told before they are scheduled. Pure.

Only what the table of `reflection.forge.fields` refuses whatever the circumstances; the rest is known at the provider.
"""

from __future__ import annotations

from collections.abc import Iterator

from reflection.forge.fields import CONTAINER, POD_SPEC, VOLUME, Rules, Treatment
from reflection.forge.model import Json
from reflection.forge.walk import is_set


def unfit(pod: Json) -> str:
    """Say which field stands against offloading, and why; empty if none does."""
    return next(_refusals(pod.get("spec") or {}), "")


def _refusals(spec: Json) -> Iterator[str]:
    yield from _refused(spec, POD_SPEC, "spec")
    for volume in spec.get("volumes") or ():
        yield from _refused(volume, VOLUME, f"volume {volume.get('name', '')}")
    for kind in ("initContainers", "containers"):
        for container in spec.get(kind) or ():
            path = f"container {container.get('name', '')}"
            yield from _refused(container, CONTAINER, path)
            if any(port.get("hostPort") for port in container.get("ports") or ()):
                yield f"{path}: hostPort names a port of this cluster's nodes"


def _refused(obj: Json, rules: Rules, path: str) -> Iterator[str]:
    for key, value in obj.items():
        rule = rules.get(key)
        if rule is not None and rule.treatment is Treatment.REFUSE and is_set(value):
            yield f"{path}.{key} {rule.why}"
