"""Fake nodes: kwok plays the kubelet of every node with its annotation, so thousands of pods cost next to nothing."""

from __future__ import annotations

from typing import Any

import yaml

from deploy.lab import gobuild
from deploy.lab.plan import ClusterPlan
from deploy.lab.process import UnitSpec

ANNOTATION = "kwok.x-k8s.io/node"
HOLD_ANNOTATION = "lab.example.com/hold"
"""A pod with this annotation gets no status from kwok, so a test writes it; it is still removed when deleted."""

_POD_READY = """
{{ $now := Now }}
conditions:
{{ range $type := list "Initialized" "ContainersReady" "Ready" }}
- {type: {{ $type | Quote }}, status: "True", lastTransitionTime: {{ $now | Quote }}}
{{ end }}
{{ range .spec.readinessGates }}
- {type: {{ .conditionType | Quote }}, status: "True", lastTransitionTime: {{ $now | Quote }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: true
  started: true
  restartCount: 0
  state: {running: {startedAt: {{ $now | Quote }}}}
{{ end }}
initContainerStatuses:
{{ range .spec.initContainers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: true
  restartCount: 0
  {{ if eq ( or .restartPolicy "" ) "Always" }}
  started: true
  state: {running: {startedAt: {{ $now | Quote }}}}
  {{ else }}
  state: {terminated: {exitCode: 0, reason: Completed, startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }}}}
  {{ end }}
{{ end }}
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
podIP: {{ PodIPWith .spec.nodeName ( or .spec.hostNetwork false ) ( or .metadata.uid "" ) ( or .metadata.name "" )
    ( or .metadata.namespace "" ) | Quote }}
phase: Running
startTime: {{ $now | Quote }}
"""
_POD_COMPLETE = """
{{ $now := Now }}
{{ $root := . }}
containerStatuses:
{{ range $index, $item := .spec.containers }}
- name: {{ $item.name | Quote }}
  image: {{ $item.image | Quote }}
  ready: false
  started: false
  restartCount: 0
  state: {terminated: {exitCode: 0, reason: Completed, startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }}}}
{{ end }}
phase: Succeeded
"""
_NODE_READY = """
{{ $now := Now }}
conditions:
{{ range NodeConditions }}
- type: {{ .type | Quote }}
  status: {{ .status | Quote }}
  reason: {{ .reason | Quote }}
  message: {{ .message | Quote }}
  lastHeartbeatTime: {{ $now | Quote }}
  lastTransitionTime: {{ $now | Quote }}
{{ end }}
addresses:
- {type: InternalIP, address: {{ NodeIP | Quote }}}
- {type: Hostname, address: {{ NodeName | Quote }}}
nodeInfo: {architecture: amd64, operatingSystem: linux, kubeletVersion: kwok, kubeProxyVersion: kwok, osImage: kwok,
  containerRuntimeVersion: kwok, kernelVersion: kwok, bootID: "", machineID: "", systemUUID: ""}
phase: Running
"""
_ALIVE = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
_NOT_HELD = {"key": f'.metadata.annotations["{HOLD_ANNOTATION}"]', "operator": "DoesNotExist"}


def kwok(plan: ClusterPlan) -> UnitSpec:
    """The program, for nodes with its annotation only."""
    config = plan.write("kwok.yaml", yaml.safe_dump_all(stages(), sort_keys=False))
    return plan.unit(
        "kwok",
        gobuild.KWOK.target / "kwok",
        f"--kubeconfig={plan.kubeconfig('kwok')}",
        f"--config={config}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={ANNOTATION}=fake",
        f"--node-ip={plan.site.ip}",
        "--node-lease-duration-seconds=40",
        f"--cidr=10.{192 + plan.index}.0.1/16",
    )


def stages() -> list[dict[str, Any]]:
    """What happens to nodes and pods: ready at once, pods of Jobs completed at once, gone when deleted."""
    absent_ip = {"key": ".status.podIP", "operator": "DoesNotExist"}
    running = {"key": ".status.phase", "operator": "In", "values": ["Running"]}
    of_job = {"key": ".metadata.ownerReferences.[].kind", "operator": "In", "values": ["Job"]}
    deleted = {"key": ".metadata.deletionTimestamp", "operator": "Exists"}
    ready = '.status.conditions.[] | select( .type == "Ready" ) | .status'
    unready = {"key": ready, "operator": "NotIn", "values": ["True"]}
    return [
        _stage("node-ready", "Node", [unready], {"statusTemplate": _NODE_READY}),
        _stage("pod-ready", "Pod", [_ALIVE, _NOT_HELD, absent_ip], {"statusTemplate": _POD_READY}),
        _stage("pod-complete", "Pod", [_ALIVE, _NOT_HELD, running, of_job], {"statusTemplate": _POD_COMPLETE}),
        _stage("pod-delete", "Pod", [deleted], {"delete": True}),
    ]


def node(name: str) -> dict[str, Any]:
    """A fake node with room for everything."""
    room = {"cpu": "1000", "memory": "4Ti", "ephemeral-storage": "4Ti", "pods": "10000"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {ANNOTATION: "fake"},
            "labels": {"type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux"},
        },
        "status": {"allocatable": room, "capacity": room},
    }


def _stage(name: str, kind: str, selector: list[dict[str, Any]], then: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": selector},
            "next": then,
        },
    }
