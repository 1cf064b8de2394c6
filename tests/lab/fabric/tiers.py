"""The shop of `deploy/examples/shop` with its tiers placed by hand, small: one pod each, and its orders in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.lab.paths import ROOT
from tests import manifests as m

Json = dict[str, Any]

_BASE = ROOT / "deploy/examples/shop/base"
_KINDS = {"web": "Deployment", "api": "Deployment", "database": "StatefulSet"}
_NEEDLESS = (("CronJob", "report"), ("HorizontalPodAutoscaler", "api"), ("Ingress", "web"))
_IN_MEMORY: list[Json] = [
    {"op": "remove", "path": "/spec/volumeClaimTemplates"},
    {"op": "add", "path": "/spec/template/spec/volumes", "value": [{"name": "data", "emptyDir": {}}]},
]


def kustomization(folder: Path, *, nodes: Mapping[str, str]) -> str:
    """A folder for `kubectl apply -k`; `nodes` says by tier where its pod runs."""
    folder.mkdir()
    own: dict[str, list[Any]] = {"resources": [os.path.relpath(_BASE, folder)], "patches": [*map(_without, _NEEDLESS)]}
    own["patches"] += [_patch(_KINDS[tier], tier, _placed(node)) for tier, node in nodes.items()]
    own["patches"].append(_patch("StatefulSet", "database", _IN_MEMORY))
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
    return str(folder)


def _placed(node: str) -> list[Json]:
    where = {"kubernetes.io/hostname": node}
    return [
        {"op": "add", "path": "/spec/template/spec/nodeSelector", "value": where},
        {"op": "add", "path": "/spec/template/spec/tolerations", "value": [m.TOLERATION]},
        {"op": "add", "path": "/spec/replicas", "value": 1},
        {"op": "add", "path": "/spec/template/spec/terminationGracePeriodSeconds", "value": 6},
    ]


def _without(one: tuple[str, str]) -> Json:
    kind, name = one
    group = {"CronJob": "batch/v1", "HorizontalPodAutoscaler": "autoscaling/v2", "Ingress": "networking.k8s.io/v1"}
    gone = {"$patch": "delete", "apiVersion": group[kind], "kind": kind, "metadata": {"name": name}}
    return {"patch": json.dumps(gone)}


def _patch(kind: str, name: str, steps: list[Json]) -> Json:
    return {"target": {"kind": kind, "name": name}, "patch": json.dumps(steps)}
