"""Whether a pod whose remote pod is gone may run again: decided by all that is known of its last run."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from kube.objects import Metadata, Object
from kube.store import MutableStore
from reflection.forge import names
from reflection.forge.model import ForgeContext
from reflection.ledger import Ledger
from reflection.pair import Parts
from reflection.pods import PodReconciler
from reflection.remotes import DirectRemotes

KEY = ("web", "a")
NAMESPACE = "web-milan"
Json = dict[str, Any]


def ran(phase: str) -> Json:
    state = {"terminated": {"exitCode": 0}} if phase in ("Succeeded", "Failed") else {"running": {}}
    container = {"name": "main", "image": "i", "imageID": "", "containerID": "containerd://1", "restartCount": 0}
    return {"phase": phase, "containerStatuses": [{**container, "ready": False, "state": state}]}


def pod(uid: str, version: str, *, policy: str, status: Json, namespace: str = "web", **annotations: str) -> Object:
    spec = {"restartPolicy": policy, "nodeName": "n", "containers": [{"name": "main", "image": "i"}]}
    metadata = Metadata(name="a", namespace=namespace, uid=uid, resource_version=version, annotations=annotations)
    encode = msgspec.json.encode
    return Object(metadata=metadata, spec=Raw(encode(spec)), status=Raw(encode(status)))


class World:
    """A reconciler between two caches, whose writes are only noted."""

    def __init__(self, policy: str, *, told: Json, last: Json | None) -> None:
        self.policy = policy
        self.created: list[Json] = []
        self.statuses: list[Json] = []
        self.ledger = Ledger()
        self.pods: MutableStore[Object] = MutableStore()
        self.pods.upsert(pod("u", "10", policy=policy, status=told))
        remote: MutableStore[Object] = MutableStore()
        if last is not None:
            origin = {names.ORIGIN_UID: "u", names.ORIGIN_NAMESPACE: "web", names.ORIGIN_NAME: "a"}
            gone = pod("r", "5", policy=policy, status=last, namespace=NAMESPACE, **origin)
            remote.upsert(gone)
            remote.remove(pod("r", "6", policy=policy, status={}, namespace=NAMESPACE).metadata)
            self.ledger[KEY].departed = gone
        space = SimpleNamespace(
            name=NAMESPACE, synced=True, pods=SimpleNamespace(store=remote), remotes=SimpleNamespace(store=remote)
        )
        context = ForgeContext(node_name="n", consumer_id="milan", remote_namespace=NAMESPACE)
        self.reconciler = PodReconciler(self._parts(space, context))

    def _parts(self, space: Any, context: ForgeContext) -> Parts:
        async def nothing(*_: object, **__: object) -> str:
            return NAMESPACE

        provider: Any = SimpleNamespace(create=self._create, find=self._find)
        parts: Any = {
            "remotes": DirectRemotes(provider),
            "pods": self.pods,
            "caches": SimpleNamespace(ensure=lambda _: space),
            "references": SimpleNamespace(track=lambda *_, **__: True),
            "namespaces": SimpleNamespace(ensure=nothing, admits=lambda _: None),
            "contexts": SimpleNamespace(of=lambda _, **__: context, now=lambda: "2026-01-01T00:00:00Z"),
            "reports": SimpleNamespace(status=self._status, event=lambda *_, **__: None, notes=lambda *_: None),
            "ledger": self.ledger,
            "changer": None,
            "endings": None,
            "tokens": None,
            "claims": SimpleNamespace(ensure=nothing),
            "gives_tokens": lambda *_: False,
        }
        return Parts(**parts)

    async def _create(self, _resource: object, body: Json, **_: object) -> Object:
        self.created.append(body)
        return pod("r2", "7", policy=self.policy, status={}, namespace=NAMESPACE)

    async def _find(self, *_: object, **__: object) -> None:
        return None

    async def _status(self, key: tuple[str, str], _origin: Object, before: Json, wanted: Json) -> bool:
        if before["status"].get("phase") == wanted["phase"]:
            return False
        self.statuses.append(wanted)
        self.ledger[key].origin_version = "11"
        return True

    def echo(self, status: Json) -> None:
        """The consumer's watch shows what was written."""
        self.pods.upsert(pod("u", "11", policy=self.policy, status=status))

    async def reconcile(self) -> None:
        await self.reconciler.reconcile(KEY)


async def test_i2_nothing_is_started_while_the_watch_has_yet_to_show_our_own_status() -> None:
    world = World("Never", told={"phase": "Pending"}, last=None)
    world.ledger[KEY].origin_version = "11"
    await world.reconcile()
    assert world.created == []
    world.echo(ran("Running"))
    await world.reconcile()
    assert world.created == []
    assert [status["phase"] for status in world.statuses] == ["Failed"]


@pytest.mark.parametrize(("policy", "last"), [("Never", "Succeeded"), ("OnFailure", "Succeeded"), ("Never", "Failed")])
async def test_i2_a_pod_that_ended_before_that_was_told_is_not_run_again(policy: str, last: str) -> None:
    world = World(policy, told={"phase": "Pending"}, last=ran(last))
    await world.reconcile()
    assert [status["phase"] for status in world.statuses] == [last]
    world.echo(ran(last))
    await world.reconcile()
    assert world.created == []


async def test_i4_a_pod_that_ran_before_that_was_told_is_counted_as_restarted() -> None:
    world = World("Always", told={"phase": "Pending"}, last=ran("Running"))
    await world.reconcile()
    assert world.created == []
    world.echo(ran("Running"))
    await world.reconcile()
    (body,) = world.created
    assert '{"main":1}' in body["metadata"]["annotations"].values()


async def test_what_was_told_already_is_not_told_again_and_the_pod_is_started_at_once() -> None:
    world = World("Always", told=ran("Running"), last=ran("Running"))
    await world.reconcile()
    assert len(world.created) == 1
    assert world.statuses == []
