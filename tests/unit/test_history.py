"""The history checker sees each violation that it is there for, and none where there is none."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.history import Entry, History, Json, read

NODE, USER, REMOTE_USER = "vk", "system:node:vk", "isthmus:lab"


def pod(uid: str, version: int, *, name: str = "a", origin: str = "", **more: Any) -> Json:
    annotations = {"offloading.isthmus.dev/origin-uid": origin} if origin else {}
    metadata = {"uid": uid, "name": name, "resourceVersion": str(version), "annotations": annotations}
    metadata |= more.pop("metadata", {})
    status = {"phase": "Running", **more}
    return {"kind": "Pod", "metadata": metadata, "spec": {"nodeName": NODE}, "status": status}


def entry(at: float, verb: str, response: Json, *, user: str = "admin", sub: str = "", **more: Any) -> Entry:
    status, request = more.get("status", 201 if verb == "create" else 200), more.get("request", {})
    name = response.get("metadata", {}).get("name", "a")
    return Entry(at, at + 0.1, user, verb, "pods", sub, "ns", name, status, request, response)


def history(
    consumer: Sequence[Entry] = (),
    provider: Sequence[Entry] = (),
    *,
    left: Sequence[Json] = (),
    far: Sequence[Json] = (),
) -> History:
    return History(
        node=NODE,
        node_user=USER,
        provider_user=REMOTE_USER,
        consumer=consumer,
        provider=provider,
        origins_left=left,
        remotes_left=far,
    )


BORN = entry(1, "create", pod("o", 1))
OFFLOADED = entry(2, "create", pod("r", 1, origin="o"), user=REMOTE_USER)
NOW = {"gracePeriodSeconds": 0}


def test_a_pod_that_was_made_and_removed_in_order_is_fine() -> None:
    told = entry(3, "delete", pod("o", 2, metadata={"deletionGracePeriodSeconds": 1, "deletionTimestamp": "x"}))
    remote_told = entry(
        4, "delete", pod("r", 2, origin="o", metadata={"deletionGracePeriodSeconds": 1}), user=REMOTE_USER
    )
    remote_gone = entry(5, "delete", pod("r", 3, origin="o"), request=NOW)
    gone = entry(6, "delete", pod("o", 3), user=USER, request=NOW)
    found = history([BORN, told, gone], [OFFLOADED, remote_told, remote_gone])
    found.check()
    assert [(life.began, life.ended) for life in found.remotes()] == [(2, 5)]
    assert [(life.told_to_end, life.ended) for life in found.origins()] == [(3, 6)]


def test_i1_a_pod_without_a_remote_pod_or_a_reason_is_lost() -> None:
    with pytest.raises(AssertionError, match="I1: a has no remote pod"):
        history([BORN], left=[pod("o", 1)]).check()
    history([BORN], left=[pod("o", 1, reason="OffloadRefused")]).check()


def test_i1_an_origin_that_goes_before_its_remote_pod_is_seen() -> None:
    gone = entry(3, "delete", pod("o", 2), user=USER, request=NOW)
    with pytest.raises(AssertionError, match=r"I1: .* removed while its remote pod"):
        history([BORN, gone], [OFFLOADED]).check()


def test_i2_two_remote_pods_at_once_are_seen() -> None:
    second = entry(3, "create", pod("r2", 2, name="b", origin="o"), user=REMOTE_USER)
    with pytest.raises(AssertionError, match="I2: origin o"):
        history([BORN], [OFFLOADED, second]).check()


def test_i2_one_held_by_a_finalizer_still_counts() -> None:
    kept = entry(3, "delete", pod("r", 2, origin="o", metadata={"finalizers": ["x"]}), request=NOW)
    second = entry(4, "create", pod("r2", 3, name="b", origin="o"), user=REMOTE_USER)
    with pytest.raises(AssertionError, match="I2"):
        history([BORN], [OFFLOADED, kept, second]).check()
    let_go = entry(3.5, "patch", pod("r", 3, origin="o", metadata={"deletionTimestamp": "x"}))
    history([BORN], [OFFLOADED, kept, let_go, second]).check()


def test_i3_a_deletion_without_cause_is_seen_whoever_else_may_delete() -> None:
    ours = entry(3, "delete", pod("r", 2, origin="o"), user=REMOTE_USER)
    with pytest.raises(AssertionError, match=r"I3: .* was deleted while its origin"):
        history([BORN], [OFFLOADED, ours]).check()
    history([BORN], [OFFLOADED, entry(3, "delete", pod("r", 2, origin="o"))]).check()


def test_i3_an_orphan_is_seen() -> None:
    with pytest.raises(AssertionError, match="I3: remote pod a of o is an orphan"):
        history([BORN], [OFFLOADED], far=[pod("r", 1, origin="o")]).check()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"phase": "Succeeded"}, {"phase": "Running"}),
        (
            {"containerStatuses": [{"name": "c", "restartCount": 2}]},
            {"containerStatuses": [{"name": "c", "restartCount": 1}]},
        ),
    ],
    ids=["phase", "restarts"],
)
def test_i4_a_status_that_goes_back_is_seen(before: Json, after: Json) -> None:
    writes = [
        entry(2, "patch", pod("o", 2, **before), sub="status"),
        entry(3, "patch", pod("o", 3, **after), sub="status"),
    ]
    with pytest.raises(AssertionError, match="I4"):
        history([BORN, *writes]).check()


def test_i5_sides_that_disagree_are_seen() -> None:
    with pytest.raises(AssertionError, match="I5: a is Pending, its remote pod Running"):
        history([BORN], [OFFLOADED], left=[pod("o", 1, phase="Pending")], far=[pod("r", 1, origin="o")]).check()


@pytest.mark.parametrize(("status", "count"), [(403, 21), (200, 31)])
def test_i7_a_storm_is_seen_and_a_slow_stream_is_none(status: int, count: int) -> None:
    def repeated(pause: float) -> list[Entry]:
        return [
            entry(5 + i * pause, "patch", pod("o", i + 2), user=USER, sub="status", status=status) for i in range(count)
        ]

    with pytest.raises(AssertionError, match="I7"):
        history([BORN, *repeated(0.1)]).check()
    history([BORN, *repeated(1.0)]).check()


def test_a_pod_that_kwok_alone_removed_does_not_count() -> None:
    struck = entry(3, "delete", pod("r", 2, origin="o"), user="lab:kwok", request=NOW)
    again = entry(4, "create", pod("s", 3, origin="o"), user=REMOTE_USER)
    wanted = entry(5, "delete", pod("s", 4, origin="o", metadata={"deletionGracePeriodSeconds": 1}), user=REMOTE_USER)
    gone = entry(6, "delete", pod("s", 5, origin="o"), user="lab:kwok", request=NOW)
    found = history([BORN], [OFFLOADED, struck, again, wanted, gone])
    assert [life.uid for life in found.remotes_of("o")] == ["s"]


def test_a_log_is_read_from_the_first_whole_line_on(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    stamps = {"requestReceivedTimestamp": "2026-01-01T00:00:00Z", "stageTimestamp": "2026-01-01T00:00:01Z"}
    event = {"stage": "ResponseComplete", "user": {"username": "u"}, "verb": "get", **stamps}
    first, second = (json.dumps({**event, "objectRef": {"name": name}}) + "\n" for name in ("a", "b"))
    log.write_text(first + second + first[:9])
    assert [entry.name for entry in read(log)] == ["a", "b"]
    for offset in (1, len(first) - 1, len(first)):
        assert [entry.name for entry in read(log, offset=offset)] == ["b"]
    assert not list(read(log, offset=len(first) + 1))
