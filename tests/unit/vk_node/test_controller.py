"""The Node's controller while the API server, others and the provider do what they do."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from kube.client import Client
from kube.objects import Metadata, ObjectReference
from tests.unit.vk_node.fakeapi import FakeApi, Json, refusal, serving
from tests.unit.vk_node.tasks import running, until
from vk.node import controller
from vk.node.capacity import FixedCapacity
from vk.node.controller import DriftBudget, ForeignNodeError, NodeController
from vk.node.datapath import DataPath, Report
from vk.node.datapath import Path as NetworkPath
from vk.node.objects import Node
from vk.node.settings import NodeSettings, parse_resources
from vk.node.signals import Notifier, Verdict

PATH = "/api/v1/nodes/vk-1"
SETTINGS = NodeSettings(name="vk-1", addresses=("198.18.0.7",), kubelet_version="v1.34.4")


class Probe:
    def __init__(self) -> None:
        self.changed = Notifier()
        self.verdict: Verdict | None = Verdict(ok=True, reason="ProviderReachable", message="")

    def say(self, *, ok: bool) -> None:
        self.verdict = Verdict(ok=ok, reason="ProviderReachable" if ok else "ProviderUnreachable", message="")
        self.changed.notify()


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[tuple[FakeApi, Client]]:
    async with serving(tmp_path) as pair:
        yield pair


@pytest.fixture
def probe() -> Probe:
    return Probe()


class Said:
    """An event recorder that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def event(self, ref: ObjectReference, *, type: str, reason: str, message: str) -> None:
        assert (ref.kind, ref.name) == ("Node", "vk-1")
        assert message
        self.events.append((ref.uid, type, reason))


def _controller(
    client: Client, probe: Probe, said: Said | None = None, *, network: DataPath | None = None, ready: bool = True
) -> NodeController:
    """`ready`: whether Ready follows the network, too."""
    capacity = FixedCapacity(parse_resources("cpu=4,memory=8Gi,pods=110"))
    return NodeController(
        client,
        settings=SETTINGS,
        capacity=capacity,
        probes=[probe, network] if network and ready else [probe],
        network=network,
        recorder=said,
        registry=CollectorRegistry(),
    )


def _ready(api: FakeApi) -> str:
    return _condition(api, "Ready")


def _condition(api: FakeApi, kind: str) -> str:
    conditions = api.objects.get(PATH, {}).get("status", {}).get("conditions", [])
    return next((item["status"] for item in conditions if item["type"] == kind), "")


def _change(api: FakeApi, **status: object) -> None:
    body = api.objects[PATH]
    api.put(PATH, body | {"metadata": dict(body["metadata"]), "status": body["status"] | status})


async def test_i6_created_ready_then_not_ready_then_ready(fake: tuple[FakeApi, Client], probe: Probe) -> None:
    api, client = fake
    said = Said()
    node = _controller(client, probe, said)
    async with running(node.run):
        await node.established.wait()
        assert _ready(api) == "True"
        assert node.uid == api.objects[PATH]["metadata"]["uid"]
        probe.say(ok=False)
        await until(lambda: _ready(api) == "False")
        probe.say(ok=True)
        await until(lambda: _ready(api) == "True")
    assert api.count("DELETE", "") == 0
    assert api.count("PATCH", PATH) == 2, "nothing but the two changes was written"
    assert said.events == [("vk-1", "Warning", "ProviderUnreachable"), ("vk-1", "Normal", "KubeletReady")]


async def test_the_node_follows_the_network_at_once(fake: tuple[FakeApi, Client], probe: Probe) -> None:
    api, client = fake
    network, said = DataPath(provider="north"), Said()

    def told() -> tuple[str, str]:
        return _condition(api, "NetworkUnavailable"), _ready(api)

    async with running(_controller(client, probe, said, network=network).run):
        await until(lambda: told() == ("Unknown", "False"))
        for passing, large, expected in (
            (True, True, ("False", "True")),
            (True, False, ("True", "True")),
            (False, False, ("True", "False")),
            (True, True, ("False", "True")),
        ):
            way = NetworkPath(address="10.1.0.0", settled=True, passing=passing, full_size_lost=passing and not large)
            network.tell(Report(paths=(way,)))
            await until(lambda expected=expected: told() == expected)  # type: ignore[misc] # a default argument
    assert ("vk-1", "Warning", "PathBroken") in said.events


async def test_the_network_is_told_where_ready_does_not_follow_it(fake: tuple[FakeApi, Client], probe: Probe) -> None:
    api, client = fake
    network = DataPath(provider="north")
    async with running(_controller(client, probe, network=network, ready=False).run):
        await until(lambda: _ready(api) == "True")
        network.tell(Report(paths=(NetworkPath(address="10.1.0.0", settled=True, passing=False),)))
        await until(lambda: _condition(api, "NetworkUnavailable") == "True", seconds=5)
        assert _ready(api) == "True"


async def test_after_a_restart_nothing_is_written_until_something_is_known(
    fake: tuple[FakeApi, Client], probe: Probe
) -> None:
    api, client = fake
    first = _controller(client, probe)
    async with running(first.run):
        await first.established.wait()
    probe.verdict = None
    second = _controller(client, probe)
    async with running(second.run):
        await until(lambda: api.count("PATCH", PATH) >= 1)  # its first heartbeat
        assert _ready(api) == "True"


async def test_a_machine_of_the_same_name_is_left_alone(fake: tuple[FakeApi, Client], probe: Probe) -> None:
    api, client = fake
    machine: Json = {"metadata": {"name": "vk-1"}, "status": {"nodeInfo": {"kubeletVersion": "v1.34.4"}}}
    api.put(PATH, machine)
    with pytest.raises(ForeignNodeError, match="choose another node name"):
        async with asyncio.timeout(20):
            await _controller(client, probe).run()
    assert {method for method, _ in api.requests} == {"GET"}


async def test_deleted_by_someone_it_is_made_again_at_once(fake: tuple[FakeApi, Client], probe: Probe) -> None:
    api, client = fake
    node = _controller(client, probe)
    renewed: list[str] = []
    node.changed.subscribe(lambda: renewed.append(node.uid))
    async with running(node.run):
        await node.established.wait()
        await until(lambda: api.watching > 0)
        old = node.uid
        api.remove(PATH)
        await until(lambda: PATH in api.objects and node.uid not in ("", old))
        assert renewed == [old, node.uid]


async def test_deleted_before_the_watch_began_it_is_made_again_too(
    fake: tuple[FakeApi, Client], probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, client = fake
    monkeypatch.setattr(controller, "COMPUTE_SECONDS", 0.05)
    gone: list[str] = []

    def vanish(request: web.Request) -> None:
        if request.path == "/api/v1/nodes" and request.method == "GET" and not gone:
            gone.append(api.objects[PATH]["metadata"]["uid"])
            api.remove(PATH)

    api.fault = vanish
    node = _controller(client, probe)
    async with running(node.run):
        await until(lambda: bool(gone) and PATH in api.objects and node.uid not in ("", gone[0]))


async def test_status_spoilt_by_someone_is_put_right_and_theirs_stays(
    fake: tuple[FakeApi, Client], probe: Probe
) -> None:
    api, client = fake
    node = _controller(client, probe)
    async with running(node.run):
        await node.established.wait()
        capacity = api.objects[PATH]["status"]["capacity"]
        _change(api, capacity=capacity | {"cpu": "99", "example.com/fpga": "3"})
        await until(lambda: api.objects[PATH]["status"]["capacity"]["cpu"] == "4")
        assert api.objects[PATH]["status"]["capacity"]["example.com/fpga"] == "3"


async def test_f14_two_writers_do_not_drive_each_other(fake: tuple[FakeApi, Client], probe: Probe) -> None:
    """Someone who puts the same wrong value back after each write of ours gets no write storm."""
    api, client = fake
    node = _controller(client, probe)

    def spoil(request: web.Request) -> None:
        if request.method == "PATCH":
            asyncio.get_running_loop().call_later(0.01, lambda: _change(api, capacity={"cpu": "1"}))

    async with running(node.run):
        await node.established.wait()
        api.fault = spoil
        _change(api, capacity={"cpu": "1"})
        await until(lambda: api.count("PATCH", PATH) >= 10)
        await asyncio.sleep(0.5)
        assert api.count("PATCH", PATH) <= 11


async def test_f16_forbidden_is_retried_slowly_and_recovers(
    fake: tuple[FakeApi, Client], probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, client = fake
    monkeypatch.setattr(controller, "REFUSED_SECONDS", 2.0)
    node = _controller(client, probe)
    async with running(node.run):
        await node.established.wait()
        api.fault = lambda request: refusal(403, "Forbidden") if request.method == "PATCH" else None
        for ok in (False, True, False):
            probe.say(ok=ok)
            await asyncio.sleep(0.05)
        assert api.count("PATCH", PATH) == 1
        api.fault = None
        await until(lambda: _ready(api) == "False")


async def test_f15_retry_after_is_honoured(fake: tuple[FakeApi, Client], probe: Probe) -> None:
    api, client = fake
    node = _controller(client, probe)
    busy = refusal(503, "ServiceUnavailable", headers={"Retry-After": "1"})
    body, headers = busy.text, {"Retry-After": "1"}

    def fault(request: web.Request) -> web.Response | None:
        if request.method != "PATCH" or api.count("PATCH", PATH) > 1:
            return None
        return web.Response(status=503, text=body, headers=headers, content_type="application/json")

    async with running(node.run):
        await node.established.wait()
        api.fault = fault
        loop = asyncio.get_running_loop()
        started = loop.time()
        probe.say(ok=False)
        await until(lambda: _ready(api) == "False")
        assert loop.time() - started >= 0.95


async def test_f1_an_api_server_that_is_away_at_the_start_is_waited_for(
    fake: tuple[FakeApi, Client], probe: Probe
) -> None:
    api, client = fake
    api.fault = lambda _request: web.Response(status=502, text="<html>bad gateway</html>")
    node = _controller(client, probe)
    async with running(node.run):
        await until(lambda: len(api.requests) >= 1)
        api.fault = None
        async with asyncio.timeout(15):
            await node.established.wait()


async def test_f14_a_node_made_anew_meanwhile_is_looked_at_first(fake: tuple[FakeApi, Client], probe: Probe) -> None:
    """Our patch names the UID: a foreign Node that took the name between two looks is not touched."""
    api, client = fake
    node = _controller(client, probe)
    task = asyncio.create_task(node.run())
    await node.established.wait()
    api.objects[PATH] = {
        "kind": "Node",
        "metadata": {"name": "vk-1", "uid": "other", "resourceVersion": "999"},
        "status": {"nodeInfo": {"kubeletVersion": "v1.34.4"}},
    }
    probe.say(ok=False)
    with pytest.raises(ForeignNodeError):
        await asyncio.wait_for(task, 10)
    assert "conditions" not in api.objects[PATH]["status"]


@pytest.mark.parametrize(
    ("one", "other", "earlier"),
    [
        (("u", "9"), ("u", "10"), True),
        (("u", "10"), ("u", "9"), False),
        (("u", "10"), ("u", "10"), False),
        (("u", "9"), ("another", "10"), False),
        (("u", "abc"), ("u", "10"), False),
    ],
)
def test_f8_a_replayed_state_is_known_as_old(one: tuple[str, str], other: tuple[str, str], earlier: bool) -> None:
    nodes = [Node(metadata=Metadata(name="vk-1", uid=uid, resource_version=version)) for uid, version in (one, other)]
    assert controller.older(*nodes) is earlier


@given(st.lists(st.floats(0.0, 60.0), min_size=1, max_size=100))
def test_i7_drift_writes_are_bounded(pauses: list[float]) -> None:
    budget, now, writes = DriftBudget(burst=10, period=10.0), 0.0, 0
    for pause in pauses:
        now += pause
        wait = budget.take(now)
        assert wait >= 0.0
        writes += wait == 0.0
    assert writes <= 10 + now / 10.0 + 1
