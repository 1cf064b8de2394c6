"""What outlasts an outage, which pods are replaced in one, and what counts as one."""

from typing import Any

import msgspec
import pytest

from reflection.scheduling import tolerance
from reflection.scheduling.lost import LostPod, kept_because
from reflection.scheduling.nodes import Outages, SeenNode
from reflection.scheduling.pods import SeenPod

NOT_READY, UNREACHABLE = tolerance.TAINTS


def tolerating(key: str, **more: Any) -> dict[str, Any]:
    return {"key": key, "operator": "Exists", "effect": "NoExecute", **more}


FOREVER = [tolerating(NOT_READY), tolerating(UNREACHABLE)]
DEFAULTS = [tolerating(NOT_READY, tolerationSeconds=300), tolerating(UNREACHABLE, tolerationSeconds=300)]
OWN_TIME = [tolerating(NOT_READY, tolerationSeconds=20), tolerating(UNREACHABLE, tolerationSeconds=301)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], FOREVER),
        (DEFAULTS, FOREVER),
        (FOREVER, None),
        (OWN_TIME, None),
        ([{"operator": "Exists"}], None),
        ([{"operator": "Exists", "tolerationSeconds": 5}], None),
        ([tolerating(NOT_READY, effect="NoSchedule")], [tolerating(NOT_READY, effect="NoSchedule"), *FOREVER]),
        (
            [{"key": NOT_READY, "effect": "NoExecute"}, DEFAULTS[1]],
            [{"key": NOT_READY, "effect": "NoExecute"}, FOREVER[1]],
        ),
        ([*DEFAULTS, {"key": "gpu"}], [*FOREVER, {"key": "gpu"}]),
    ],
)
def test_only_what_the_api_server_sets_by_itself_is_loosened(
    before: list[dict[str, Any]], after: list[dict[str, Any]] | None
) -> None:
    assert tolerance.loosened(before) == after
    if after is not None:
        assert tolerance.loosened(after) is None


@pytest.mark.parametrize(("tolerations", "evictable"), [(DEFAULTS, True), (FOREVER, False), (OWN_TIME, False)])
def test_a_seen_pod_tells_whether_it_would_be_evicted_and_forgets_why(
    tolerations: list[dict[str, Any]], evictable: bool
) -> None:
    seen = msgspec.json.decode(
        msgspec.json.encode({"metadata": {"name": "a"}, "spec": {"nodeName": "v", "tolerations": tolerations}}),
        type=SeenPod,
    )

    assert (seen.evictable, seen.spec.tolerations, seen.spec.node_name) == (evictable, (), "v")


def pod(kind: str | None, *, volumes: tuple[dict[str, Any], ...] = ()) -> LostPod:
    owners = [] if kind is None else [{"kind": kind, "name": "o", "controller": True}]
    body = {"metadata": {"name": "a", "ownerReferences": owners}, "spec": {"volumes": volumes}}
    return msgspec.json.decode(msgspec.json.encode(body), type=LostPod)


CLAIM = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
OWN_CLAIM = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}}


@pytest.mark.parametrize(
    ("lost", "why"),
    [
        (pod("ReplicaSet"), ""),
        (pod("Job"), ""),
        (pod("ReplicaSet", volumes=(OWN_CLAIM, {"name": "c", "configMap": {"name": "c"}})), ""),
        (pod("ReplicaSet", volumes=(CLAIM,)), "data must not be in use twice"),
        (pod("StatefulSet"), "must not run twice"),
        (pod("Cluster"), "must not run twice"),
        (pod(None), "no controller"),
    ],
)
def test_no_name_and_no_data_is_put_to_use_twice(lost: LostPod, why: str) -> None:
    said = kept_because(lost)

    assert why in said
    assert bool(said) == bool(why)


def node(ready: str | None) -> SeenNode:
    conditions = [{"type": "PIDPressure", "status": "False"}]
    if ready is not None:
        conditions.append({"type": "Ready", "status": ready})
    return msgspec.convert({"metadata": {"name": "v"}, "status": {"conditions": conditions}}, SeenNode)


def test_an_outage_is_what_the_node_itself_says_and_counts_from_when_it_was_seen() -> None:
    now = 100.0
    outages = Outages(clock=lambda: now)
    for state in ("True", "Unknown", None):
        outages.observe("v", node(state))
        assert outages.lasting("v") is None
    outages.observe("v", node("False"))
    now = 130.0
    outages.observe("v", node("False"))
    assert outages.lasting("v") == 30.0
    outages.observe("v", node("Unknown"))
    outages.observe("v", node("False"))
    assert outages.lasting("v") == 0.0, "what nobody knows about is no outage"
    outages.observe("v", None)
    assert outages.lasting("v") is None
