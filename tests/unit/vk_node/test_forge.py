"""The Node as it is created, and the least patch that puts it right."""

from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from vk.node import forge
from vk.node.forge import Desired
from vk.node.objects import Node
from vk.node.settings import APPLIED_ANNOTATION, NodeSettings, label_allowed
from vk.node.signals import Condition, Verdict

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
SETTINGS = NodeSettings(name="vk-1", addresses=("198.18.0.7",), kubelet_version="v1.34.4", labels={"zone": "a"})
READY = forge.ready_condition([Verdict(ok=True, reason="Reached", message="yes")])
AWAY = forge.ready_condition([Verdict(ok=False, reason="ProviderUnreachable", message="no")])
DESIRED = Desired(ready=READY, resources={"cpu": "4", "memory": "8Gi", "pods": "110"})


def _live(settings: NodeSettings = SETTINGS, desired: Desired = DESIRED, **changes: Any) -> Node:
    """The Node as an API server would return it after creation, with changes made by others."""
    body: dict[str, Any] = forge.new_node(settings, desired, now=NOW)
    body["metadata"] |= {"uid": "u-1", "resourceVersion": "7"}
    for path, value in changes.items():
        outer, inner = path.split("__")
        body[outer][inner] = value(body[outer].get(inner)) if callable(value) else value
    return msgspec.convert(body, Node)


def _status(
    live: Node, desired: Desired = DESIRED, *, settings: NodeSettings = SETTINGS, heartbeat: bool = False
) -> Any:
    patch = forge.status_patch(settings, desired, live=live, now=LATER, heartbeat=heartbeat)
    return None if patch is None else patch["status"]


def test_a_new_node_is_complete() -> None:
    body: Any = forge.new_node(SETTINGS, DESIRED, now=NOW)
    labels = body["metadata"]["labels"]
    assert labels["type"] == "virtual-kubelet"
    assert labels["kubernetes.io/hostname"] == "vk-1"
    assert labels["node.kubernetes.io/exclude-from-external-load-balancers"] == "true"
    assert labels["zone"] == "a"
    taint = {"key": "virtual-kubelet.io/provider", "value": "isthmus", "effect": "NoSchedule"}
    assert body["spec"] == {"taints": [taint]}
    status = body["status"]
    assert status["capacity"] == status["allocatable"] == DESIRED.resources
    assert status["daemonEndpoints"] == {"kubeletEndpoint": {"Port": 10250}}
    assert status["addresses"] == [{"type": "InternalIP", "address": "198.18.0.7"}]
    assert status["nodeInfo"]["kubeletVersion"] == "v1.34.4"
    kinds = {condition["type"]: condition["status"] for condition in status["conditions"]}
    pressures = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
    assert kinds == {**dict.fromkeys(pressures, "False"), "Ready": "True"}


def test_every_label_of_ours_passes_noderestriction() -> None:
    assert all(label_allowed(label) for label in forge.labels(SETTINGS))


def test_a_node_begins_not_ready_while_nothing_is_known() -> None:
    body: Any = forge.new_node(SETTINGS, Desired(ready=None, resources=None), now=NOW)
    ready = next(condition for condition in body["status"]["conditions"] if condition["type"] == "Ready")
    assert ready["status"] == "False"
    assert body["status"]["capacity"] == {}


def test_names_longer_than_a_label_value() -> None:
    settings = NodeSettings(name="a" * 62 + ".b" * 20, addresses=("198.18.0.7",))
    assert forge.labels(settings)["kubernetes.io/hostname"] == "a" * 62
    assert forge.owned(_live(settings))


def test_nothing_to_do_means_no_write() -> None:
    assert forge.metadata_patch(SETTINGS, DESIRED, live=_live()) is None
    assert _status(_live()) is None


def test_a_heartbeat_writes_conditions_only() -> None:
    status = _status(_live(), heartbeat=True)
    assert set(status) == {"conditions"}
    assert {condition["lastHeartbeatTime"] for condition in status["conditions"]} == {LATER}
    assert {condition["lastTransitionTime"] for condition in status["conditions"]} == {NOW}


def test_i6_not_ready_is_told_with_its_reason_and_a_transition() -> None:
    status = _status(_live(), Desired(ready=AWAY, resources=DESIRED.resources))
    ready = status["conditions"][-1]
    assert (ready["type"], ready["status"], ready["reason"]) == ("Ready", "False", "ProviderUnreachable")
    assert ready["lastTransitionTime"] == LATER


def test_what_is_not_known_yet_is_left_alone() -> None:
    """After a restart the Node stays Ready, with its capacity, until the first ping and the first list are done."""
    live = _live()
    assert _status(live, Desired(ready=None, resources=None)) is None
    status = _status(live, Desired(ready=None, resources=None), heartbeat=True)
    assert "Ready" not in {condition["type"] for condition in status["conditions"]}


def test_unknown_set_by_the_control_plane_is_put_right() -> None:
    def unknown(conditions: list[dict[str, str]]) -> list[dict[str, str]]:
        return [{**condition, "status": "Unknown", "reason": "NodeStatusUnknown"} for condition in conditions]

    status = _status(_live(status__conditions=unknown))
    assert {condition["type"]: condition["status"] for condition in status["conditions"]}["Ready"] == "True"


def test_extended_resources_and_conditions_of_others_survive() -> None:
    extended = {"example.com/fpga": "3"}
    live = _live(
        status__capacity=lambda own: own | extended,
        status__allocatable=lambda own: own | extended,
        status__conditions=lambda own: [*own, {"type": "FrequentRestart", "status": "False"}],
    )
    assert _status(live) is None
    status = _status(live, Desired(ready=READY, resources={"cpu": "5", "memory": "8Gi", "pods": "110"}))
    assert status["capacity"] == status["allocatable"] == {"cpu": "5"}
    assert "FrequentRestart" not in {condition["type"] for condition in status["conditions"]}


def test_an_equal_amount_written_otherwise_is_no_change() -> None:
    assert _status(_live(), Desired(ready=READY, resources={"cpu": "4000m", "memory": "8192Mi", "pods": "110"})) is None


def test_a_resource_of_ours_that_is_no_more_is_removed_and_then_forgotten() -> None:
    had = Desired(ready=READY, resources={**(DESIRED.resources or {}), "nvidia.com/gpu": "2"})
    live = _live(desired=had)
    assert forge.metadata_patch(SETTINGS, DESIRED, live=live) is None, "not forgotten before it is removed"
    assert _status(live)["capacity"] == {"nvidia.com/gpu": None}
    gone = _live(
        desired=had,
        status__capacity=lambda own: {name: own[name] for name in ("cpu", "memory", "pods")},
        status__allocatable=lambda own: {name: own[name] for name in ("cpu", "memory", "pods")},
    )
    patch: Any = forge.metadata_patch(SETTINGS, DESIRED, live=gone)
    assert "nvidia.com/gpu" not in patch["metadata"]["annotations"][APPLIED_ANNOTATION]
    assert _status(gone) is None


def test_labels_of_others_survive_and_dropped_ones_of_ours_go() -> None:
    live = _live(metadata__labels=lambda own: own | {"theirs": "x"}, metadata__annotations=lambda own: own | {"t": "y"})
    assert forge.metadata_patch(SETTINGS, DESIRED, live=live) is None
    changed = NodeSettings(name="vk-1", addresses=("198.18.0.7",), kubelet_version="v1.34.4", labels={"new": "b"})
    patch: Any = forge.metadata_patch(changed, DESIRED, live=live)
    assert patch["metadata"]["labels"] == {"new": "b", "zone": None}
    assert set(patch["metadata"]["annotations"]) == {APPLIED_ANNOTATION}
    assert patch["metadata"]["uid"] == "u-1"


def test_a_spoilt_annotation_is_written_anew() -> None:
    live = _live(metadata__annotations=lambda own: own | {APPLIED_ANNOTATION: "{not json"})
    patch: Any = forge.metadata_patch(SETTINGS, DESIRED, live=live)
    assert set(patch["metadata"]) == {"uid", "annotations"}
    assert _status(live) is None


def test_two_addresses_of_one_type_replace_the_list() -> None:
    settings = NodeSettings(name="vk-1", addresses=("198.18.0.7", "2001:db8::7"), kubelet_version="v1.34.4")
    external = {"type": "ExternalIP", "address": "203.0.113.9"}
    live = _live(status__addresses=lambda own: [*own, external])
    listed = _status(live, settings=settings)["addresses"]
    assert listed == [
        {"type": "InternalIP", "address": "198.18.0.7"},
        {"type": "InternalIP", "address": "2001:db8::7"},
        external,
        {"$patch": "replace"},
    ]


def test_a_new_kubelet_version_changes_that_alone() -> None:
    settings = NodeSettings(name="vk-1", addresses=("198.18.0.7",), kubelet_version="v1.35.0", labels={"zone": "a"})
    assert _status(_live(), settings=settings)["nodeInfo"] == {"kubeletVersion": "v1.35.0"}


def test_extra_conditions_are_published() -> None:
    extra = Condition(type="ServingCertificate", status="True", reason="Issued", message="m")
    status = _status(_live(), Desired(ready=READY, resources=DESIRED.resources, extra=(extra,)))
    assert [c["type"] for c in status["conditions"]][-2:] == ["ServingCertificate", "Ready"]


def test_whose_node_it_is() -> None:
    assert forge.owned(_live())
    assert forge.owned(_live(metadata__labels={"nothing": "left"})), "known by its taint"
    bare = {"metadata": {"name": "vk-1"}, "status": {"nodeInfo": {"kubeletVersion": "v1.34.4"}}}
    assert not forge.owned(msgspec.convert(bare, Node)), "a machine"
    labels = {"type": "virtual-kubelet"}
    other = {"metadata": {"name": "vk-1", "labels": labels}, "status": {"nodeInfo": {"kubeletVersion": "v1"}}}
    assert not forge.owned(msgspec.convert(other, Node)), "another virtual kubelet's"
    assert forge.owned(msgspec.convert({"metadata": {"name": "vk-1", "labels": labels}}, Node)), "prepared for us"


def test_missing_taints_are_noticed() -> None:
    assert forge.missing_taints(SETTINGS, live=_live()) == []
    assert forge.missing_taints(SETTINGS, live=_live(spec__taints=[])) == ["virtual-kubelet.io/provider"]


_VERDICTS = st.sampled_from(
    [None, Verdict(ok=True, reason="R", message=""), Verdict(ok=False, reason="F", message="m")]
)


@given(st.lists(_VERDICTS, max_size=4))
def test_i6_ready_needs_every_probe(verdicts: list[Verdict | None]) -> None:
    condition = forge.ready_condition(verdicts)
    if any(verdict is not None and not verdict.ok for verdict in verdicts):
        assert condition is not None
        assert condition.status == "False"
    elif None in verdicts:
        assert condition is None
    else:
        assert condition is not None
        assert condition.status == "True"


UNREACHED = Condition(type="NetworkUnavailable", status="True", reason="PathBroken", message="m", normal="False")


def test_the_network_is_as_it_is_measured() -> None:
    live = _live()
    status = _status(live, replace(DESIRED, network=UNREACHED))
    told = {one["type"]: one["status"] for one in status["conditions"]}
    assert told["NetworkUnavailable"] == "True"
    assert [one["type"] for one in status["conditions"]].count("NetworkUnavailable") == 1
    assert forge.transitions(replace(DESIRED, network=UNREACHED), live=live) == [UNREACHED]
    assert not forge.transitions(DESIRED, live=live), "nobody measures, nothing is told"


def test_what_an_earlier_run_said_of_the_network_stays_until_it_is_measured_again() -> None:
    live = _live(desired=replace(DESIRED, network=UNREACHED))
    assert _status(live, replace(DESIRED, network=None)) is None
    heartbeat = _status(live, replace(DESIRED, network=None), heartbeat=True)
    assert "NetworkUnavailable" not in {one["type"] for one in heartbeat["conditions"]}
    new: Any = forge.new_node(SETTINGS, replace(DESIRED, network=None), now=NOW)
    (told,) = (one for one in new["status"]["conditions"] if one["type"] == "NetworkUnavailable")
    assert (told["status"], told["reason"]) == ("Unknown", "Starting")
