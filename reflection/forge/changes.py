"""What changed at the consumer after the remote pod was made: labels, annotations, images, resources, deadline, debug.

Compared is not the remote pod but the record it carries of what it was last given, so that what the provider's
admission set or added (image mirrors, limits, sidecars, labels) is left alone until the consumer's own value changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from reflection.forge import metadata, names, sanitise
from reflection.forge.containers import ephemeral_container
from reflection.forge.model import Changes, ForgeContext, Json, Note, Refused
from reflection.forge.pod import remote_annotations, remote_labels
from reflection.forge.volumes import volumes
from reflection.forge.walk import Job

_CONTAINERS: Final = ("initContainers", "containers")


def changes(pod: Json, remote: Json, *, context: ForgeContext) -> Changes:
    """Find what is to be passed on to a remote pod, each part as small as can be; falsy if nothing is.

    Tolerations, scheduling gates and finalizers mean something only at the consumer. A resource that was removed
    stays at the provider: a resize can't take one away.
    """
    notes: list[Note] = []
    ephemeral = _ephemeral(pod, remote, context, notes)
    record = metadata.record(pod)
    text = metadata.encode_record(record)
    annotations = remote["metadata"].get("annotations") or {}
    if annotations.get(names.CARRIED) == text:
        return Changes(_repaired(remote, context), None, ephemeral, tuple(notes))
    before = metadata.decode_record(annotations.get(names.CARRIED))
    meta: dict[str, Any] = {"annotations": {names.CARRIED: text}}
    if before.get("metadata") != record["metadata"]:
        meta = _metadata(pod, remote, before, context, notes)
    patch: dict[str, Any] = {"metadata": meta}
    spec = images(pod, remote, before, record)
    deadline = record.get("activeDeadlineSeconds")
    if deadline not in (None, before.get("activeDeadlineSeconds"), remote["spec"].get("activeDeadlineSeconds")):
        spec["activeDeadlineSeconds"] = deadline
    if spec:
        patch["spec"] = spec
    return Changes(patch, resize(pod, remote, before, record), ephemeral, tuple(notes))


def _repaired(remote: Json, context: ForgeContext) -> dict[str, Any] | None:
    """Put our labels back: by them the remote pod is found."""
    labels = remote["metadata"].get("labels") or {}
    lost = {key: value for key, value in context.labels.items() if labels.get(key) != value}
    return {"metadata": {"labels": lost}} if lost else None


def _metadata(
    pod: Json, remote: Json, before: Json, context: ForgeContext, notes: list[Note]
) -> dict[str, dict[str, str | None]]:
    job = Job.of(pod, context=context)
    try:
        volumes(pod["spec"].get("volumes") or [], job, "spec.volumes")
        metadata.check_size(remote_annotations(job))
    except Refused as refused:
        # The pod runs already: what the downward API shows of it stays as it was.
        job.mirrors.clear()
        notes.append(Note("OffloadChangeRefused", str(refused)))
    there = remote["metadata"]
    found = {
        "labels": difference(there.get("labels"), remote_labels(job), before.get("labels")),
        "annotations": difference(there.get("annotations"), remote_annotations(job), before.get("annotations")),
    }
    return {key: value for key, value in found.items() if value}


def difference(there: object, wanted: Mapping[str, str], earlier: object) -> dict[str, str | None]:
    """Give what to set and, of the keys that were ours, what to remove."""
    remote = sanitise.mapping(there)
    patch: dict[str, str | None] = {key: value for key, value in wanted.items() if remote.get(key) != value}
    for key in earlier if isinstance(earlier, list) else ():
        if isinstance(key, str) and key in remote and key not in wanted:
            patch[key] = None
    return patch


def images(pod: Json, remote: Json, before: Json, record: Json) -> dict[str, Any]:
    """Give the containers of a patch whose image is another than the record `before` knows."""
    known = sanitise.mapping(before.get("images"))
    found: dict[str, Any] = {}
    for kind in _CONTAINERS:
        there = by_name(remote["spec"].get(kind))
        changed = [
            {"name": container["name"], "image": container.get("image")}
            for container in pod["spec"].get(kind) or ()
            if known.get(container["name"]) != record["images"][container["name"]]
            and container["name"] in there
            and there[container["name"]].get("image") != container.get("image")
        ]
        if changed:
            found[kind] = changed
    return found


def resize(pod: Json, remote: Json, before: Json, record: Json) -> dict[str, Any] | None:
    """Give the patch for the subresource resize; None if nothing was resized since the record `before`."""
    known, now = sanitise.mapping(before.get("resources")), record.get("resources", {})
    found: dict[str, Any] = {}
    for kind in _CONTAINERS:
        there = by_name(remote["spec"].get(kind))
        changed = []
        for container in pod["spec"].get(kind) or ():
            name = container["name"]
            if name in now and name in there and known.get(name) != now[name]:
                resources = _changed_resources(container["resources"], there[name].get("resources"))
                if resources:
                    changed.append({"name": name, "resources": resources})
        if changed:
            found[kind] = changed
    return {"spec": found} if found else None


def _changed_resources(wanted: Json, there: object) -> dict[str, dict[str, str]]:
    remote = sanitise.mapping(there)
    found = {}
    for part in ("limits", "requests"):
        given = sanitise.mapping(remote.get(part))
        changed = {key: value for key, value in (wanted.get(part) or {}).items() if given.get(key) != value}
        if changed:
            found[part] = changed
    return found


def _ephemeral(pod: Json, remote: Json, context: ForgeContext, notes: list[Note]) -> dict[str, Any] | None:
    """Add ephemeral containers that are not there yet; they can be neither changed nor removed."""
    wanted = pod["spec"].get("ephemeralContainers")
    if not wanted:
        return None
    there = by_name(remote["spec"].get("ephemeralContainers"))
    missing = [(index, container) for index, container in enumerate(wanted) if container["name"] not in there]
    if not missing:
        return None
    job = Job.of(pod, context=context)
    forged: list[Json] = []
    for index, container in missing:
        try:
            if not forged:
                volumes(pod["spec"].get("volumes") or [], job, "spec.volumes")
            forged.append(ephemeral_container(container, job, f"spec.ephemeralContainers[{index}]"))
        except Refused as refused:
            notes.append(Note("OffloadChangeRefused", str(refused)))
    return {"spec": {"ephemeralContainers": forged}} if forged else None


def by_name(containers: object) -> dict[str, Json]:
    """Index containers, whoever wrote them."""
    return {
        container["name"]: container for container in sanitise.objects(containers, limit=256) if "name" in container
    }
