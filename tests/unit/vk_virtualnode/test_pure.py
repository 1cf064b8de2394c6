"""What a VirtualNode becomes: options, objects, taints, status."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.meta import condition
from api.offloading.virtual_node import Drain, VirtualNodeStatus
from isthmus.fabric_agent import FabricAgentOptions
from isthmus.options import Options, parse
from tests.unit.vk_virtualnode.conftest import node, virtual_node
from vk.virtualnode import render, status, taints
from vk.virtualnode.settings import CONFIG_ANNOTATION, VirtualNodeSettings
from vk.virtualnode.status import Problem, Seen

SETTINGS = VirtualNodeSettings(image="i:1", consumer_id="lab", server="https://c:6443", ca=b"ca")
FULL = virtual_node(
    resources={"cpu": 8, "nvidia.com/gpu": "2"},
    labels={"tier": "gold"},
    taints=[{"key": "gpu", "effect": "NoSchedule"}, {"key": "a", "value": "b", "effect": "NoExecute"}],
    nodeSelector={"pool": "gpu"},
    quotaNamespaces=["x"],
    apiServer="api:6443",
    pendingTimeout="5m",
    dns={"servers": ["10.96.0.53"], "domain": "here.example"},
)


def digest(objects: list[dict[str, Any]]) -> str:
    text: str = objects[1]["spec"]["template"]["metadata"]["annotations"][CONFIG_ANNOTATION]
    return text


def test_the_options_are_such_as_the_virtual_kubelet_takes(tmp_path: Any) -> None:
    file = tmp_path / "options.yaml"
    file.write_text(render.objects(FULL, SETTINGS)[0]["data"]["options.yaml"])
    chosen = parse([f"--config={file}"], Options, command="virtual-kubelet", purpose="")
    assert chosen.node_name == "one"
    assert (chosen.consumer_id, chosen.provider) == ("lab", "north")
    assert chosen.namespaces_from_objects is False
    assert (chosen.cluster_dns, chosen.cluster_domain) == (["10.96.0.53"], "here.example")
    assert chosen.capacity == ["cpu=8", "nvidia.com/gpu=2"]
    assert chosen.taint == ["gpu:NoSchedule", "a=b:NoExecute"]
    assert (chosen.label, chosen.node_selector) == (["tier=gold"], ["pool=gpu"])
    assert (chosen.pending_timeout, chosen.api_access, chosen.quota_namespace) == ("5m", "api:6443", ["x"])


def test_a_change_of_options_is_a_new_pod_and_nothing_else_is() -> None:
    assert digest(render.objects(FULL, SETTINGS)) == digest(render.objects(FULL, SETTINGS))
    assert digest(render.objects(FULL, SETTINGS)) != digest(render.objects(virtual_node(), SETTINGS))
    named = render.options(virtual_node(nodeName="other"), SETTINGS)
    assert named["node-name"] == "other"
    assert yaml.safe_load(yaml.safe_dump(named)) == named


def test_no_secret_is_in_the_objects() -> None:
    assert "ca" not in {key for body in render.objects(FULL, SETTINGS) for key in body.get("data", {})}


def test_a_probe_runs_beside_the_virtual_kubelet_where_there_is_a_network_to_its_provider(tmp_path: Any) -> None:
    settings = replace(SETTINGS, networked=True)
    config, deployment = render.objects(virtual_node(), settings, probed=True)
    pod = deployment["spec"]["template"]["spec"]
    kubelet, probe = pod["containers"]
    (tmp_path / "options.yaml").write_text(config["data"]["options.yaml"])
    options = parse([f"--config={tmp_path}/options.yaml"], Options, command="virtual-kubelet", purpose="")
    asked = parse(probe["args"][1:], FabricAgentOptions, command="fabric-agent", purpose="")
    assert probe["args"][0] == "fabric-agent"
    assert (asked.role, asked.name, asked.listen) == ("probe", options.node_name, options.probe_socket)
    assert options.network_peering == "north"
    mounts = [
        {one["mountPath"] for one in container["volumeMounts"] if one["name"] == "run"}
        for container in (kubelet, probe)
    ]
    assert mounts[0] == mounts[1] == {str(Path(asked.listen.removeprefix("unix:")).parent)}
    assert probe["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"name", "emptyDir"} == {key for one in pod["volumes"] if one["name"] == "run" for key in one}


def test_no_probe_runs_where_there_is_none() -> None:
    config, deployment = render.objects(virtual_node(), replace(SETTINGS, networked=True))
    pod = deployment["spec"]["template"]["spec"]
    assert [container["name"] for container in pod["containers"]] == ["virtual-kubelet"]
    assert "probe-socket" not in config["data"]["options.yaml"]
    assert "run" not in {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize(
    ("failing", "shown", "expected"),
    [
        ("False", ["gpu"], None),
        ("False", [], ["gpu"]),
        ("False", ["theirs"], ["theirs", "gpu"]),
        ("True", ["gpu"], ["gpu", taints.FAILING_TAINT]),
        ("True", ["gpu", taints.FAILING_TAINT], None),
        ("False", ["gpu", taints.FAILING_TAINT], ["gpu"]),
    ],
)
def test_taints(failing: str, shown: list[str], expected: list[str] | None) -> None:
    virtual = virtual_node(taints=[{"key": "gpu", "effect": "NoSchedule"}])
    effects = {taints.FAILING_TAINT: "PreferNoSchedule"}
    live = node(
        taints=[{"key": key, "effect": effects.get(key, "NoSchedule")} for key in shown],
        conditions=[{"type": taints.FAILING_CONDITION, "status": failing}],
    )
    made = taints.patched(virtual, live)
    assert (None if made is None else [taint["key"] for taint in made]) == expected


READY = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "fine"}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Seen(), ("False", "Starting")),
        (Seen(problem=Problem("KubeconfigMissing", "m")), ("False", "KubeconfigMissing")),
        (Seen(node=node(conditions=[READY]), available=True), ("True", "KubeletReady")),
        (Seen(node=node(conditions=[READY])), ("True", "Restarting")),
        (Seen(node=node(conditions=[{**READY, "status": "Unknown"}]), available=True), ("Unknown", "KubeletReady")),
        (Seen(node=node(conditions=[READY]), available=True, drain=Drain(total=2, remaining=1)), ("False", "Draining")),
    ],
)
def test_ready(seen: Seen, expected: tuple[str, str]) -> None:
    ready = condition(status.status(virtual_node(), seen, now="t").conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == expected
    assert ready.observed_generation == 3


def test_a_provider_whose_pods_are_not_reached_is_reached_itself() -> None:
    broken = {"type": "Ready", "status": "False", "reason": "PathBroken", "message": "no answer"}
    said = status.status(virtual_node(), Seen(node=node(conditions=[broken]), available=True), now="t").conditions
    ready, reachable = condition(said, "Ready"), condition(said, "ProviderReachable")
    assert ready is not None
    assert reachable is not None
    assert (ready.status, ready.reason, reachable.status) == ("False", "PathBroken", "True")


def test_an_unchanged_status_is_not_written_and_what_has_gone_is_removed() -> None:
    allocatable = {"cpu": "1", "nvidia.com/gpu": "2"}
    live = node(conditions=[READY], allocatable=allocatable)
    first = status.status(virtual_node(), Seen(node=live, available=True, pods=3), now="t1")
    assert status.patch(first, first) is None
    smaller = node(conditions=[READY], allocatable={"cpu": "1"})
    second = status.status(virtual_node(), Seen(node=smaller, available=True, pods=3), now="t2")
    patch = status.patch(first, second)
    assert patch is not None
    assert patch["status"]["allocatable"] == {"cpu": "1", "nvidia.com/gpu": None}
    gone = status.patch(first, VirtualNodeStatus())
    assert gone == {"status": dict.fromkeys(("observedGeneration", "conditions", "nodeName", "allocatable", "pods"))}
