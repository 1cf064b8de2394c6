from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from reflection.forge import names
from reflection.forge.changes import changes
from reflection.forge.model import ForgeContext
from reflection.forge.pod import forge_pod

Json = dict[str, Any]


@pytest.fixture
def remote(pod: Json, context: ForgeContext) -> Json:
    return copy.deepcopy(forge_pod(pod, context=context).body)


def merged(target: Any, patch: Any) -> Any:
    """Apply a strategic merge patch to a pod, as far as these patches go: named lists merge by name."""
    if isinstance(patch, dict):
        out = dict(target or {})
        for key, value in patch.items():
            if value is None:
                out.pop(key, None)
            else:
                out[key] = merged(out.get(key), value)
        return out
    if isinstance(patch, list) and patch and isinstance(patch[0], dict):
        found = {entry["name"]: entry for entry in target or ()}
        for entry in patch:
            found[entry["name"]] = merged(found.get(entry["name"]), entry)
        return list(found.values())
    return patch


def passed_on(pod: Json, remote: Json, context: ForgeContext) -> Json:
    found = changes(pod, remote, context=context)
    assert found
    for patch in (found.ephemeral, found.resize, found.patch):
        remote = merged(remote, patch or {})
    assert not changes(pod, remote, context=context)
    return remote


def test_nothing_changed(pod: Json, remote: Json, context: ForgeContext) -> None:
    found = changes(pod, remote, context=context)
    assert not found
    assert found.notes == ()


def test_labels_and_annotations_come_change_and_go(pod: Json, remote: Json, context: ForgeContext) -> None:
    remote["metadata"]["labels"]["provider.example.com/pool"] = "green"
    remote["metadata"]["annotations"]["cni.example.com/ip"] = "10.0.0.1"
    pod["metadata"]["labels"].update(new="1")
    pod["metadata"]["annotations"].update(team="b")
    found = changes(pod, remote, context=context)
    assert found.patch is not None
    carried = found.patch["metadata"]["annotations"].pop(names.CARRIED)
    assert json.loads(carried)["labels"] == ["app", "new"]
    assert found.patch == {"metadata": {"labels": {"new": "1"}, "annotations": {"team": "b"}}}

    remote = passed_on(pod, remote, context)
    del pod["metadata"]["labels"]["app"], pod["metadata"]["annotations"]["team"]
    remote = passed_on(pod, remote, context)
    assert "app" not in remote["metadata"]["labels"]
    assert "team" not in remote["metadata"]["annotations"]
    assert remote["metadata"]["labels"]["provider.example.com/pool"] == "green"
    assert remote["metadata"]["annotations"]["cni.example.com/ip"] == "10.0.0.1"
    assert remote["metadata"]["labels"][names.NODE_LABEL] == "virtual-1"


def test_downward_text_follows(pod: Json, context: ForgeContext) -> None:
    items = [{"path": kind, "fieldRef": {"fieldPath": f"metadata.{kind}"}} for kind in ("labels", "annotations")]
    pod["spec"]["volumes"].append({"name": "info", "downwardAPI": {"items": items}})
    remote = forge_pod(pod, context=context).body
    pod["metadata"]["labels"]["app"] = "web2"
    pod["metadata"]["annotations"]["offloading.isthmus.dev/x"] = "not carried, yet shown"
    remote = passed_on(pod, remote, context)
    annotations = remote["metadata"]["annotations"]
    assert 'app="web2"' in annotations[names.ORIGIN_LABELS]
    assert "not carried, yet shown" in annotations[names.ORIGIN_ANNOTATIONS]
    assert "offloading.isthmus.dev/x" not in annotations


def test_downward_text_that_has_grown_too_long_stays_and_is_told(pod: Json, context: ForgeContext) -> None:
    item = {"path": "a", "fieldRef": {"fieldPath": "metadata.annotations"}}
    pod["spec"]["volumes"].append({"name": "info", "downwardAPI": {"items": [item]}})
    remote = forge_pod(pod, context=context).body
    before = remote["metadata"]["annotations"][names.ORIGIN_ANNOTATIONS]
    pod["metadata"]["annotations"]["big"] = "x" * 150_000
    found = changes(pod, remote, context=context)
    assert [note.reason for note in found.notes] == ["OffloadChangeRefused"]
    remote = passed_on(pod, remote, context)
    assert remote["metadata"]["annotations"][names.ORIGIN_ANNOTATIONS] == before
    assert len(remote["metadata"]["annotations"]["big"]) == 150_000


@pytest.mark.parametrize("kind", ["containers", "initContainers"])
def test_image(pod: Json, context: ForgeContext, kind: str) -> None:
    pod["spec"][kind] = [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}]
    remote = copy.deepcopy(forge_pod(pod, context=context).body)
    remote["spec"][kind][0]["image"] = "mirror.example.com/a:1"
    pod["spec"][kind][1]["image"] = "b:2"
    found = changes(pod, remote, context=context)
    assert found.patch is not None
    assert found.patch["spec"] == {kind: [{"name": "b", "image": "b:2"}]}
    assert found.patch["metadata"].keys() == {"annotations"}
    remote = passed_on(pod, remote, context)
    assert remote["spec"][kind][0]["image"] == "mirror.example.com/a:1"


def test_deadline(pod: Json, remote: Json, context: ForgeContext) -> None:
    pod["spec"]["activeDeadlineSeconds"] = 60
    remote = passed_on(pod, remote, context)
    assert remote["spec"]["activeDeadlineSeconds"] == 60


def test_resize_goes_by_its_subresource_and_only_what_changed(pod: Json, remote: Json, context: ForgeContext) -> None:
    container = remote["spec"]["containers"][0]
    container["resources"] = {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    assert not changes(pod, remote, context=context), "limits that the provider sets are its own"
    pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "200m"}}
    found = changes(pod, remote, context=context)
    resized = {"name": "web", "resources": {"requests": {"cpu": "200m"}}}
    assert found.resize == {"spec": {"containers": [resized]}}
    assert found.patch is not None
    assert found.patch.keys() == {"metadata"}
    remote = passed_on(pod, remote, context)
    assert remote["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "200m", "memory": "1Gi"}


def test_ephemeral_container_is_added_once(pod: Json, remote: Json, context: ForgeContext) -> None:
    fields = [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]
    mounts = [{"name": "kube-api-access-x7k2p", "mountPath": "/t"}, {"name": "data", "mountPath": "/d"}]
    debug = {"name": "debug", "image": "i", "targetContainerName": "web", "env": fields, "volumeMounts": mounts}
    pod["spec"]["ephemeralContainers"] = [debug]
    assert "ephemeralContainers" not in forge_pod(pod, context=context).body["spec"]
    found = changes(pod, remote, context=context)
    assert found.patch is None
    forged = {
        "name": "debug",
        "image": "i",
        "targetContainerName": "web",
        "env": [{"name": "NODE", "value": "virtual-1"}],
        "volumeMounts": [{"name": "data", "mountPath": "/d"}],
    }
    assert found.ephemeral == {"spec": {"ephemeralContainers": [forged]}}
    passed_on(pod, remote, context)


def test_ephemeral_container_that_can_not_be_is_told(pod: Json, remote: Json, context: ForgeContext) -> None:
    pod["spec"]["ephemeralContainers"] = [{"name": "d", "volumeDevices": [{"name": "x"}]}, {"name": "e"}]
    found = changes(pod, remote, context=context)
    assert found.ephemeral == {"spec": {"ephemeralContainers": [{"name": "e"}]}}
    assert [note.reason for note in found.notes] == ["OffloadChangeRefused"]


def test_what_the_provider_injects_is_left_alone(pod: Json, remote: Json, context: ForgeContext) -> None:
    remote["spec"]["containers"].append({"name": "sidecar", "image": "mesh"})
    remote["spec"]["initContainers"] = [{"name": "mesh-init", "image": "mesh"}]
    remote["spec"]["tolerations"] = [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}]
    remote["spec"]["containers"][0]["image"] = "mirror.example.com/agnhost:1"
    remote["metadata"]["labels"]["app"] = "rewritten"
    assert not changes(pod, remote, context=context)


def test_our_labels_are_put_back(pod: Json, remote: Json, context: ForgeContext) -> None:
    del remote["metadata"]["labels"][names.NODE_LABEL]
    found = changes(pod, remote, context=context)
    assert found.patch == {"metadata": {"labels": {names.NODE_LABEL: "virtual-1"}}}


@pytest.mark.parametrize("text", [None, "{", "[]", '{"labels": 7, "images": [], "resources": "x"}'])
def test_without_a_usable_record_the_remote_pod_itself_is_compared(
    pod: Json, remote: Json, context: ForgeContext, text: str | None
) -> None:
    if text is None:
        del remote["metadata"]["annotations"][names.CARRIED]
    else:
        remote["metadata"]["annotations"][names.CARRIED] = text
    pod["spec"]["containers"][0]["image"] = "agnhost:2"
    remote = passed_on(pod, remote, context)
    assert remote["spec"]["containers"][0]["image"] == "agnhost:2"


def test_restart_base_is_not_touched(pod: Json, context: ForgeContext) -> None:
    remote = forge_pod(pod, context=context, restart_base={"web": 3}).body
    pod["metadata"]["labels"]["new"] = "1"
    remote = passed_on(pod, remote, replace(context))
    assert remote["metadata"]["annotations"][names.RESTART_BASE] == '{"web":3}'
