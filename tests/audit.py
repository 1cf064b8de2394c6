"""The audit log of a lab's API server, complete up to now, as entries of a history."""

import uuid
from pathlib import Path

from deploy.lab.cluster import LabCluster
from deploy.lab.process import wait_until
from tests import history
from tests.history import Entry

_PATIENCE = 60.0


def size(cluster: LabCluster) -> int:
    """Where the log ends now, in bytes."""
    return cluster.audit_log.stat().st_size


def entries(cluster: LabCluster, namespace: str, *, offset: int) -> list[Entry]:
    """What was done from a byte offset on until now in a namespace, and to Nodes."""
    mark = uuid.uuid4().hex
    body = {"metadata": {"annotations": {"test.isthmus.dev/mark": mark}}}
    cluster.api.request("PATCH", "/api/v1/namespaces/default", body=body, content_type="application/merge-patch+json")
    wait_until(
        lambda: mark in _text_from(cluster.audit_log, offset), what="the audit log", timeout=_PATIENCE, every=0.05
    )
    found = history.read(cluster.audit_log, offset=offset)
    return [entry for entry in found if entry.namespace == namespace or entry.resource == "nodes"]


def _text_from(path: Path, offset: int) -> str:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read().decode(errors="replace")
