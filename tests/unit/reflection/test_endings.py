"""How pods end: what is written, and that it is written once."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import Raw

from kube.controller import Result
from kube.objects import Metadata, Object
from kube.store import MutableStore
from reflection import endings
from reflection.decode import decode_pod, starting
from reflection.endings import Endings
from reflection.ledger import Ledger

KEY = ("web", "a")
REMOTE = ("web-milan", "a")


def pod(namespace: str, uid: str, version: str = "1", *, status: bytes = b"{}", deleted: bool = False) -> Object:
    stamp = "2026-01-01T00:00:00Z" if deleted else None
    metadata = Metadata(name="a", namespace=namespace, uid=uid, resource_version=version, deletion_timestamp=stamp)
    return Object(metadata=metadata, status=Raw(status))


class Consumer:
    def __init__(self) -> None:
        self.deleted: list[str | None] = []

    async def delete(self, _resource: object, *, uid: str | None, **_: object) -> None:
        await asyncio.sleep(0)
        self.deleted.append(uid)


def build(consumer: Consumer) -> Endings:
    remote: MutableStore[Object] = MutableStore()
    remote.upsert(pod(REMOTE[0], "r1"))
    remote.remove(pod(REMOTE[0], "r1", "2").metadata)
    caches = SimpleNamespace(get=lambda _: SimpleNamespace(remotes=SimpleNamespace(store=remote), synced=True))
    parts: dict[str, Any] = {
        "consumer": consumer,
        "remotes": None,
        "pods": MutableStore[Object](),
        "caches": caches,
        "references": SimpleNamespace(untrack=lambda _: None),
        "mapping": SimpleNamespace(remote=lambda _: REMOTE[0]),
        "reports": None,
    }
    return Endings(**parts, ledger=Ledger(), node_name="n", pod_gone=lambda _: None, now=lambda: "")


async def end(made: Endings, uid: str) -> Result | None:
    origin = pod("web", uid, deleted=True)
    context: Any = SimpleNamespace(remote_namespace=REMOTE[0])
    return await made.end(KEY, origin, decode_pod(origin), context, None)


async def test_a_removal_that_was_accepted_is_not_sent_again() -> None:
    consumer = Consumer()
    made = build(consumer)
    assert await end(made, "u1") is None
    again = await end(made, "u1")
    assert consumer.deleted == ["u1"]
    assert again is not None
    assert again.requeue_after == endings.REMOVAL_RETRY


async def test_a_successor_of_the_same_name_is_removed_too() -> None:
    consumer = Consumer()
    made = build(consumer)
    await end(made, "u1")
    await end(made, "u2")
    assert consumer.deleted == ["u1", "u2"]


async def test_a_removal_that_the_watch_never_shows_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer()
    made = build(consumer)
    await end(made, "u1")
    monkeypatch.setattr(endings, "REMOVAL_RETRY", 0.0)
    await end(made, "u1")
    assert consumer.deleted == ["u1", "u1"]


@pytest.mark.parametrize(
    ("status", "deleted", "wanted"),
    [
        (b"{}", False, True),
        (b'{"phase":"Pending"}', False, True),
        (b'{"phase":null}', False, True),
        (b'{"phase":"Running"}', False, False),
        (b'{"phase":"Failed"}', False, False),
        (b'{"phase":"Pending"}', True, False),
        (b"[]", False, False),
        (b'{"phase":["Pending"]}', False, False),
    ],
)
def test_only_pods_that_do_not_run_yet_are_starting(status: bytes, deleted: bool, wanted: bool) -> None:
    assert starting(pod("web", "u1", status=status, deleted=deleted)) is wanted
