"""What forge functions are given in these tests."""

from __future__ import annotations

from typing import Any

from reflection.kinds.model import Context, Copy, Forged

Json = dict[str, Any]


def context(**fields: Any) -> Context:
    given = {"consumer_id": "c", "provider": "p", "namespace": "web", "remote_namespace": "web-c"}
    return Context(**{**given, **fields})


def document(name: str = "x", *, labels: Json | None = None, annotations: Json | None = None, **parts: Any) -> Json:
    metadata = {"name": name, "namespace": "web", "uid": "u1", "labels": labels or {}, "annotations": annotations or {}}
    return {"metadata": metadata, **parts}


def copy(forged: Forged) -> Copy:
    assert isinstance(forged, Copy), forged
    return forged
