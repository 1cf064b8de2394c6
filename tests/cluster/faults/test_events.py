"""The provider's events about remote pods, told on the consumer's: repeated, of strangers, in restarts and outages."""

import uuid
from datetime import UTC, datetime

from tests.cluster.faults.world import MERGE, Json, World


def say(world: World, reason: str, *, pod: str = "a", uid: str = "") -> str:
    """The provider writes an event about a remote pod; gives the event's name."""
    remote = world.remote(pod)
    assert remote is not None
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    namespace = world.remote_namespace
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{reason.lower()}-{uuid.uuid4().hex[:6]}", "namespace": namespace},
        "involvedObject": {
            "kind": "Pod",
            "namespace": namespace,
            "name": pod,
            "uid": uid or remote["metadata"]["uid"],
        },
        "type": "Warning",
        "reason": reason,
        "message": f"{reason}!",
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "source": {"component": "kubelet"},
    }
    made: Json = world.provider.request("POST", _events(namespace), body=event)
    return str(made["metadata"]["name"])


def repeat(world: World, name: str, *, count: int) -> None:
    """It happened again."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {"count": count, "lastTimestamp": now}
    world.provider.request("PATCH", f"{_events(world.remote_namespace)}/{name}", body=body, content_type=MERGE)


def told(world: World, reason: str) -> int:
    """How often the consumer's pod was said to have this."""
    items = world.consumer.request("GET", _events(world.namespace))["items"]
    return sum(item.get("count") or 1 for item in items if item["reason"] == reason)


def until_told(world: World, reason: str, count: int = 1) -> None:
    world.until(lambda: told(world, reason) >= count, what=f"event {reason}, {count} times")


def _events(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/events"


def test_an_event_is_told_and_so_is_its_repetition_but_not_a_strangers(direct: World) -> None:
    direct.running("a")
    event = say(direct, "Sick")
    until_told(direct, "Sick")
    say(direct, "Foreign", uid=str(uuid.uuid4()))
    repeat(direct, event, count=2)
    until_told(direct, "Sick", 2)
    direct.provider.request("DELETE", f"{_events(direct.remote_namespace)}/{event}")
    say(direct, "Last")
    until_told(direct, "Last")  # all before it has been dealt with by now
    assert told(direct, "Sick") == 2
    assert told(direct, "Foreign") == 0, "it is about another pod of that name"


def test_a_restart_in_the_middle_tells_nothing_twice(direct: World) -> None:
    direct.running("a")
    say(direct, "Early")
    until_told(direct, "Early")
    scope = f"{direct.remote_namespace},involvedObject.kind=Pod"
    before = len(direct.logged("listed", resource="events", scope=scope))
    direct.node.unit.restart()
    direct.until(lambda: len(direct.logged("listed", resource="events", scope=scope)) > before, what="its watch")
    say(direct, "Late")
    until_told(direct, "Late")
    assert told(direct, "Early") == 1


def test_f3_what_the_provider_said_during_an_outage_is_told_afterwards(direct: World) -> None:
    direct.running("a")
    say(direct, "Before")
    until_told(direct, "Before")
    with direct.provider_away(direct.faults.link_cut(direct.node.name, "provider")):
        say(direct, "Meanwhile")
        direct.until(lambda: direct.node.condition()["status"] == "False", what="the Node to be unready")
        assert told(direct, "Meanwhile") == 0
    until_told(direct, "Meanwhile")
    assert (told(direct, "Before"), told(direct, "Meanwhile")) == (1, 1)
    direct.check()
