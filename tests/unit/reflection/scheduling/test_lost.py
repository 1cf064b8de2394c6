"""What outlasts an outage, which pods are replaced in one, and what counts as one."""

from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from api.offloading.namespaces import NamespaceOffloading
from kube.client import Client
from kube.errors import ApiError
from kube.events import EventRecorder
from kube.objects import ObjectReference
from kube.resources import Resource
from reflection.scheduling import tolerance
from reflection.scheduling.leadership import Alone
from reflection.scheduling.lost import LostPod, LostProviders, kept_because
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


def node(ready: str | None, *, reason: str = "ProviderUnreachable") -> SeenNode:
    conditions = [{"type": "PIDPressure", "status": "False"}]
    if ready is not None:
        conditions.append({"type": "Ready", "status": ready, "reason": reason})
    return msgspec.convert({"metadata": {"name": "v"}, "status": {"conditions": conditions}}, SeenNode)


def test_a_provider_that_answers_is_not_lost_though_its_pods_are_not_reached() -> None:
    now = 100.0
    outages = Outages(clock=lambda: now)
    outages.observe("v", node("False", reason="PathBroken"))
    assert outages.lasting("v") is None
    outages.observe("v", node("False"))
    now = 130.0
    assert outages.lasting("v") == 30.0
    outages.observe("v", node("False", reason="PathBroken"))
    assert outages.lasting("v") is None, "it answers again"


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


class Refusing:
    """Stands for a Client of an API server whose admission refuses what is done to pods named `fixed`."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []

    async def get(self, _resource: Resource, *, name: str, namespace: str, decode: Any) -> Any:
        metadata = {"name": name, "namespace": namespace, "uid": name}
        return msgspec.convert({"metadata": metadata, "spec": {"tolerations": DEFAULTS}}, decode)

    async def list(self, _resource: Resource, *, decode: Any, **_where: Any) -> Any:
        owners = [{"kind": "ReplicaSet", "name": "o", "controller": True}]
        pods = [{"metadata": {"name": name, "uid": name, "ownerReferences": owners}} for name in ("fixed", "free")]
        return SimpleNamespace(items=[msgspec.convert(pod, decode) for pod in pods])

    async def patch(self, _resource: Resource, _body: Any, *, name: str, **_where: Any) -> None:
        self._do("loosen", name)

    async def delete(self, _resource: Resource, *, name: str, **_where: Any) -> None:
        self._do("delete", name)

    def _do(self, what: str, name: str) -> None:
        if name == "fixed":
            raise ApiError(status=403, reason="Forbidden", message="hands off")
        self.done.append((what, name))


class Told:
    """Stands for an EventRecorder."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def event(self, ref: ObjectReference, *, message: str, **_more: str) -> None:
        self.said[ref.name] = message


async def test_f37_a_pod_that_may_not_be_touched_holds_up_no_other() -> None:
    client, told, outages = Refusing(), Told(), Outages(clock=lambda: now)
    now = 0.0
    outages.observe("v", node("False"))
    now = 60.0
    lost = LostProviders(cast(Client, client), outages, leadership=Alone(), recorder=cast(EventRecorder, told))
    spec = {"providerLost": {"policy": "Replace", "after": "30s"}}
    offloading = msgspec.convert(
        {"metadata": {"name": "offloading", "namespace": "n"}, "spec": spec}, NamespaceOffloading
    )
    pods = [
        msgspec.convert({"metadata": {"name": name, "namespace": "n", "uid": name}, "spec": {"nodeName": "v"}}, SeenPod)
        for name in ("fixed", "free")
    ]
    verdict = await lost.settle(offloading, pods, {"v"})
    assert client.done == [("loosen", "free"), ("delete", "free")]
    assert (verdict.condition.reason, verdict.again) == ("PodsReplaced", None)
    assert "kept are fixed" in verdict.condition.message
    assert "hands off" in told.said["fixed"]
    assert "is deleted" in told.said["free"]
