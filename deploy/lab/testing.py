"""Labs for tests: an instance of their own, gone at the end, and swept up later if the test's process was killed."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from deploy.lab import lab as labs
from deploy.lab.lab import Lab
from deploy.lab.settings import LabSettings

_GC_PERCENT = 400
"""Tests want the processors more than the memory."""
_NAME = re.compile(r"test-(\d+)(-\d+)?")


@contextmanager
def temporary(settings: LabSettings | None = None, *, number: int = 0) -> Iterator[Lab]:
    """A lab named after this process (`number` tells several apart); removed when the block ends, however it ends."""
    sweep()
    name = f"test-{os.getpid()}" + (f"-{number}" if number else "")
    made = Lab.up(replace(settings or LabSettings(), name=name, gc_percent=_GC_PERCENT))
    try:
        yield made
    finally:
        made.down()


def sweep() -> None:
    """Remove labs whose test process is no more."""
    for name in labs.names():
        match = _NAME.fullmatch(name)
        if match and not Path(f"/proc/{match[1]}").exists():
            labs.remove(name)


@contextmanager
def namespaces(lab: Lab, name: str) -> Iterator[str]:
    """A namespace of this name in every cluster of the lab, removed (not awaited) at the end."""
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    try:
        for cluster in lab.clusters.values():
            cluster.api.apply(manifest)
            cluster.wait_service_account(name)
        yield name
    finally:
        for cluster in lab.clusters.values():
            with contextlib.suppress(Exception):
                cluster.api.request("DELETE", f"/api/v1/namespaces/{name}")
