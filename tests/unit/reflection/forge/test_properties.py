"""What holds for every pod and every report, however odd."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from reflection.forge import names
from reflection.forge.changes import changes
from reflection.forge.fields import CONTAINER, POD_SPEC, VOLUME, Treatment
from reflection.forge.model import ApiAccess, ForgeContext, Refused
from reflection.forge.pod import forge_pod
from reflection.forge.references import references
from reflection.forge.status import MANAGED, TERMINAL, forge_status, managed, status_patch
from tests.unit.reflection.forge.conftest import POD, REMOTE_STATUS, TOKEN_VOLUME
from tests.unit.reflection.forge.test_status import merged

Json = dict[str, Any]
NOW = "2026-11-22T12:00:00Z"

CONTEXTS = st.sampled_from(
    [
        ForgeContext(node_name="virtual-1", consumer_id="c1", remote_namespace="r", node_ips=("198.18.0.9",)),
        ForgeContext(
            node_name="n" * 100,
            consumer_id="c1",
            remote_namespace="r",
            api_access=ApiAccess(host="203.0.113.5", port=443),
            runtime_classes={"kata": "kata"},
        ),
    ]
)

WORD = st.sampled_from(["a", "b", "web", "kube-root-ca.crt", "x.y"])
SCALAR = st.none() | st.booleans() | st.integers(-5, 2**40) | st.text(max_size=8)
JUNK = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3), max_leaves=5
)

METADATA_PATHS = st.sampled_from(
    [
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "metadata.labels",
        "metadata.annotations",
        "metadata.labels['app']",
        "metadata.labels['offloading.isthmus.dev/node']",
        "metadata.annotations['team']",
    ]
)
ENV_PATHS = METADATA_PATHS | st.sampled_from(["spec.nodeName", "status.hostIP", "status.podIP"])


def field_ref(paths: st.SearchStrategy[str]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({"apiVersion": st.just("v1"), "fieldPath": paths})


NAMED = st.fixed_dictionaries({"name": WORD}, optional={"optional": st.booleans()})
ENV = st.one_of(
    st.fixed_dictionaries({"name": WORD, "value": st.text(max_size=5)}),
    st.fixed_dictionaries(
        {
            "name": WORD,
            "valueFrom": st.one_of(
                st.fixed_dictionaries({"fieldRef": field_ref(ENV_PATHS)}),
                st.fixed_dictionaries({"configMapKeyRef": NAMED}),
                st.fixed_dictionaries({"secretKeyRef": NAMED}),
            ),
        }
    ),
)
ITEMS = st.lists(st.fixed_dictionaries({"path": WORD, "fieldRef": field_ref(METADATA_PATHS)}), max_size=3)
SOURCES = st.lists(
    st.one_of(
        st.fixed_dictionaries({"configMap": NAMED}),
        st.fixed_dictionaries({"secret": NAMED}),
        st.fixed_dictionaries({"downwardAPI": st.fixed_dictionaries({"items": ITEMS})}),
        st.fixed_dictionaries(
            {"serviceAccountToken": st.fixed_dictionaries({"path": WORD}, optional={"audience": WORD})}
        ),
    ),
    max_size=3,
)
VOLUMES = st.one_of(
    st.just(TOKEN_VOLUME),
    st.fixed_dictionaries({"name": WORD, "emptyDir": st.just({})}),
    st.fixed_dictionaries({"name": WORD, "configMap": NAMED}),
    st.fixed_dictionaries({"name": WORD, "downwardAPI": st.fixed_dictionaries({"items": ITEMS})}),
    st.fixed_dictionaries({"name": WORD, "projected": st.fixed_dictionaries({"sources": SOURCES})}),
    st.fixed_dictionaries({"name": WORD, "hostPath": st.just({"path": "/"})}),
)
CONTAINERS = st.fixed_dictionaries(
    {"name": WORD, "image": WORD},
    optional={
        "env": st.lists(ENV, max_size=4),
        "envFrom": st.lists(st.fixed_dictionaries({"configMapRef": NAMED}), max_size=2),
        "ports": st.lists(st.fixed_dictionaries({"containerPort": st.just(80)}, optional={"hostPort": st.just(80)})),
        "volumeMounts": st.lists(st.fixed_dictionaries({"name": WORD | st.just(TOKEN_VOLUME["name"])}), max_size=3),
        "resources": st.just({"requests": {"cpu": "1"}}),
        "newField": JUNK,
    },
)


def unique(element: st.SearchStrategy[Json], *, most: int = 3, least: int = 0) -> st.SearchStrategy[list[Json]]:
    return st.lists(element, min_size=least, max_size=most, unique_by=lambda one: one["name"])


@st.composite
def pods(draw: st.DrawFn) -> Json:
    pod = copy.deepcopy(POD)
    labels = st.dictionaries(st.sampled_from(["app", "new", names.NODE_LABEL, names.MANAGED_BY_LABEL]), WORD)
    pod["metadata"]["labels"] = draw(labels)
    pod["metadata"]["annotations"] = draw(
        st.dictionaries(st.sampled_from(["team", "t", names.ORIGIN_UID, names.CARRIED, names.LAST_APPLIED]), st.text())
    )
    switched = {name: draw(st.booleans()) for name in draw(st.sets(st.sampled_from(["hostNetwork", "hostPID"])))}
    dropped = [name for name, rule in POD_SPEC.items() if rule.treatment is Treatment.DROP]
    pod["spec"] = {
        **dict.fromkeys(draw(st.sets(st.sampled_from(dropped))), "x"),
        **(switched if draw(st.booleans()) else {}),
        "nodeName": "virtual-1",
        "restartPolicy": draw(st.sampled_from(["Always", "OnFailure", "Never"])),
        "containers": draw(unique(CONTAINERS, least=1)),
        "initContainers": draw(unique(CONTAINERS)),
        "volumes": draw(unique(VOLUMES)),
        "brandNew": draw(JUNK),
    }
    return pod


def try_forge(pod: Json, context: ForgeContext) -> Json | None:
    try:
        return forge_pod(pod, context=context).body
    except Refused:
        return None


@given(pods(), CONTEXTS)
def test_no_forbidden_field_ever_leaves(pod: Json, context: ForgeContext) -> None:
    before = copy.deepcopy(pod)
    body = try_forge(pod, context)
    assert pod == before
    if body is None:
        return
    spec = body["spec"]
    allowed = {Treatment.COPY, Treatment.TRANSLATE}
    assert all(POD_SPEC[key].treatment in allowed for key in spec if key in POD_SPEC)
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    for container in spec["containers"] + spec["initContainers"]:
        assert not any(CONTAINER[key].treatment is Treatment.REFUSE for key in container if key in CONTAINER)
        assert not any(port.get("hostPort") for port in container.get("ports") or ())
    for volume in spec.get("volumes", ()):
        assert all(VOLUME[key].treatment in allowed for key in volume)
    text = msgspec.json.encode(spec).decode()
    assert '"serviceAccountToken"' not in text
    assert '"configMapKeyRef":{"name":"kube-root-ca.crt"' not in text
    assert '"fieldPath":"metadata.namespace"' not in text
    assert '"fieldPath":"spec.nodeName"' not in text


@given(pods(), CONTEXTS)
def test_mounts_have_their_volumes(pod: Json, context: ForgeContext) -> None:
    body = try_forge(pod, context)
    if body is None:
        return
    kept = {volume["name"] for volume in body["spec"].get("volumes", ())}
    gone = {volume["name"] for volume in pod["spec"]["volumes"]} - kept
    assert gone <= {TOKEN_VOLUME["name"]}
    for container in body["spec"]["containers"] + body["spec"]["initContainers"]:
        assert not gone & {mount["name"] for mount in container.get("volumeMounts") or ()}


@given(pods(), CONTEXTS)
def test_metadata_is_ours_and_the_users(pod: Json, context: ForgeContext) -> None:
    body = try_forge(pod, context)
    if body is None:
        return
    meta = body["metadata"]
    assert meta.keys() == {"name", "namespace", "labels", "annotations"}
    assert meta["annotations"][names.ORIGIN_UID] == pod["metadata"]["uid"]
    assert meta["labels"][names.NODE_LABEL] == names.label_value(context.node_name)
    assert names.LAST_APPLIED not in meta["annotations"]
    for key, value in pod["metadata"]["labels"].items():
        assert names.is_ours(key) or meta["labels"][key] == value


@given(pods(), CONTEXTS)
def test_nothing_to_pass_on_right_after_creation(pod: Json, context: ForgeContext) -> None:
    body = try_forge(pod, context)
    if body is not None:
        assert not changes(pod, msgspec.json.decode(msgspec.json.encode(body)), context=context)


@given(pods(), pods(), CONTEXTS)
def test_once_passed_on_nothing_is_left(pod: Json, later: Json, context: ForgeContext) -> None:
    body = try_forge(pod, context)
    if body is None:
        return
    pod["metadata"]["labels"], pod["metadata"]["annotations"] = (
        later["metadata"]["labels"],
        later["metadata"]["annotations"],
    )
    patch = (changes(pod, body, context=context).patch or {}).get("metadata", {})
    for part in ("labels", "annotations"):
        both = {**body["metadata"][part], **patch.get(part, {})}
        body["metadata"][part] = {key: value for key, value in both.items() if value is not None}
    assert not changes(pod, body, context=context)
    fresh = try_forge(pod, context)
    assert fresh is not None
    assert body["metadata"] == fresh["metadata"]


@given(pods(), CONTEXTS)
def test_references_are_those_of_the_remote_pod(pod: Json, context: ForgeContext) -> None:
    """What the forged spec names is what is said to be needed, but for the tokens and the CA's other name."""
    try:
        forged = forge_pod(pod, context=context)
    except Refused:
        return
    there = references({"spec": forged.body["spec"]}, api_access=True)
    tokens = {token.secret for token in forged.token_requests}
    assert {ref.name for ref in there.secrets} == {ref.name for ref in forged.references.secrets} | tokens
    needed = {context.config_map_name(ref.name) for ref in forged.references.config_maps}
    assert {ref.name for ref in there.config_maps} == needed


STATES = st.one_of(
    JUNK,
    st.just({"running": {"startedAt": NOW}}),
    st.fixed_dictionaries({"terminated": st.fixed_dictionaries({"exitCode": st.sampled_from([0, 1, "x", None])})}),
    st.just({"waiting": {"reason": "CrashLoopBackOff"}}),
)
REPORTED_CONTAINER = st.fixed_dictionaries(
    {"name": st.sampled_from(["web", "other"])},
    optional={
        "restartCount": st.integers(-3, 9) | JUNK,
        "ready": st.booleans() | JUNK,
        "state": STATES,
        "lastState": STATES,
        "resources": JUNK,
        "volumeMounts": JUNK,
        "user": JUNK,
        "image": JUNK,
        "started": JUNK,
        "containerID": JUNK,
    },
)
REPORTED_CONDITION = st.fixed_dictionaries(
    {"type": st.sampled_from(["Ready", "ContainersReady", "PodScheduled", "PodResizePending", "theirs"]) | JUNK},
    optional={"status": st.sampled_from(["True", "False", "Unknown"]) | JUNK, "reason": JUNK, "message": JUNK},
)
STATUSES = st.one_of(
    JUNK,
    st.just(REMOTE_STATUS),
    st.fixed_dictionaries(
        {},
        optional={
            "phase": st.sampled_from(["Pending", "Running", "Succeeded", "Failed", "Unknown"]) | JUNK,
            "reason": JUNK,
            "message": JUNK,
            "startTime": JUNK,
            "podIP": st.sampled_from(["10.0.0.1", "127.0.0.1"]) | JUNK,
            "podIPs": JUNK | st.just([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]),
            "conditions": st.lists(REPORTED_CONDITION | JUNK, max_size=4) | JUNK,
            "containerStatuses": st.lists(REPORTED_CONTAINER | JUNK, max_size=3) | JUNK,
            "initContainerStatuses": JUNK,
            "observedGeneration": JUNK,
            "resize": JUNK,
        },
    ),
)


@settings(max_examples=200)
@given(st.lists(STATUSES, min_size=1, max_size=4), CONTEXTS, st.sampled_from(["Always", "OnFailure", "Never"]))
def test_a30_status_only_goes_forward_whatever_is_reported(
    reports: list[Any], context: ForgeContext, policy: str
) -> None:
    pod = copy.deepcopy(POD)
    pod["spec"]["restartPolicy"] = policy
    remote = {"metadata": {"generation": 1}, "spec": {}}
    for report in reports:
        before = pod["status"]
        wanted = forge_status(pod, {**remote, "status": report}, context=context, now=NOW)
        assert wanted.keys() <= {*MANAGED, "conditions"}
        patch = status_patch(before, wanted)
        msgspec.json.encode(patch)
        pod["status"] = after = merged(before, patch)
        assert status_patch(after, wanted) is None
        assert after["phase"] == before["phase"] or before["phase"] not in TERMINAL
        assert after["qosClass"] == "Burstable"
        assert next(one for one in after["conditions"] if one["type"] == "PodScheduled")["status"] == "True"
        old = {one["name"]: one for one in before.get("containerStatuses", ())}
        for one in after.get("containerStatuses", ()):
            assert one["name"] == "web"
            assert one["restartCount"] >= old.get("web", {}).get("restartCount", 0)
            ended = old.get("web", {}).get("state", {}).get("terminated")
            assert not ended or policy != "Never" or "terminated" in one["state"]
        assert managed(after) == managed(merged(after, None))
