"""When the provider counts as away, and what counts as an answer of its API server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from kube.errors import TransportError
from kube.transport import StreamedResponse
from vk.node import ping
from vk.node.ping import ProviderPing, Reachability, judge
from vk.node.signals import Verdict

_AWAY = Verdict(ok=False, reason="ProviderUnreachable", message="gone")


def _run(times: list[tuple[float, bool]]) -> Reachability:
    state = Reachability(started=0.0)
    for now, answered in times:
        if answered:
            state.answered(now)
        else:
            state.missed(now, _AWAY)
    return state


def _ok(state: Reachability) -> bool | None:
    return None if state.verdict is None else state.verdict.ok


def test_f5_silence_is_noticed_in_under_ten_seconds() -> None:
    """Half-open: an answer at 0, then each ping runs into its timeout."""
    assert _ok(_run([(0.0, True), (5.0, False)])) is True
    assert _ok(_run([(0.0, True), (5.0, False), (8.0, False)])) is False


def test_refused_connections_are_noticed_in_under_ten_seconds() -> None:
    times = [(0.0, True), (2.0, False), (4.0, False), (6.0, False)]
    assert _ok(_run(times)) is True
    assert _ok(_run([*times, (8.0, False)])) is False


def test_f3_a_partition_of_five_seconds_is_borne() -> None:
    assert _ok(_run([(0.0, True), (2.0, False), (4.0, False), (5.0, False), (5.1, True)])) is True


def test_a_pause_of_this_process_is_not_the_providers_fault() -> None:
    assert _ok(_run([(0.0, True), (65.0, False)])) is True
    assert _ok(_run([(0.0, True), (65.0, False), (67.0, True)])) is True


def test_i6_one_answer_makes_it_ready_again() -> None:
    assert _ok(_run([(0.0, True), (5.0, False), (8.0, False), (20.0, True)])) is True


def test_nothing_is_said_before_enough_is_known() -> None:
    assert _ok(_run([(2.0, False), (5.0, False)])) is None
    assert _ok(_run([(2.0, False), (5.0, False), (8.0, False)])) is False
    assert _ok(_run([(0.1, True)])) is True


@given(st.lists(st.tuples(st.floats(0.1, 3.0), st.booleans()), max_size=30))
def test_i6_away_means_a_long_silence_and_an_answer_always_counts(steps: list[tuple[float, bool]]) -> None:
    state, now, heard = Reachability(started=0.0), 0.0, 0.0
    for pause, answered in steps:
        now += pause
        if answered:
            state.answered(now)
            heard = now
            assert _ok(state) is True
        else:
            state.missed(now, _AWAY)
            assert not (_ok(state) is False and now - heard < ping.GRACE_SECONDS)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"ok", None),
        (200, b"<html>Sign in to the hotel's network</html>", "ProviderNotKubernetes"),
        (302, b"", "ProviderNotKubernetes"),
        (404, b"", "ProviderNotKubernetes"),
        (403, b"{}", None),
        (429, b"", None),
        (401, b"", "ProviderRefusesCredential"),
        (500, b"[-]etcd failed", "ProviderNotReady"),
        (503, b"", "ProviderNotReady"),
    ],
)
def test_f17_what_answers_say(status: int, body: bytes, reason: str | None) -> None:
    verdict = judge(status, body)
    assert (verdict.reason if verdict else None) == reason


class _Answer(StreamedResponse):
    def __init__(self, body: bytes) -> None:
        self.status = 200
        self._body = body

    async def read(self, limit: int = 1024) -> bytes:
        return self._body[:limit]


class _Server:
    def __init__(self, answer: Callable[[], Awaitable[bytes]]) -> None:
        self.answer = answer
        self.running = 0
        self.most = 0

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, params: Sequence[tuple[str, str]]
    ) -> AsyncIterator[StreamedResponse]:
        assert (method, path, params) == ("GET", "/readyz", ())
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            yield _Answer(await self.answer())
        finally:
            self.running -= 1


async def _verdict_of(answer: Callable[[], Awaitable[bytes]], monkeypatch: pytest.MonkeyPatch) -> Verdict:
    monkeypatch.setattr(ping, "PERIOD_SECONDS", 0.01)
    monkeypatch.setattr(ping, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(ping, "GRACE_SECONDS", 0.1)
    server = _Server(answer)
    provider = ProviderPing(server, registry=CollectorRegistry())
    told = asyncio.Event()
    provider.changed.subscribe(told.set)
    task = asyncio.create_task(provider.run())
    try:
        async with asyncio.timeout(20):
            await told.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert server.most == 1
    assert provider.verdict is not None
    return provider.verdict


async def test_i6_an_answer_makes_it_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer() -> bytes:
        return b"ok"

    assert (await _verdict_of(answer, monkeypatch)).ok


async def test_f5_no_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer() -> bytes:
        await asyncio.Event().wait()
        return b"never"

    verdict = await _verdict_of(answer, monkeypatch)
    assert (verdict.ok, verdict.reason) == (False, "ProviderUnreachable")


async def test_network_errors_are_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer() -> bytes:
        raise TransportError("connection refused", sent=False)

    verdict = await _verdict_of(answer, monkeypatch)
    assert verdict.reason == "ProviderUnreachable"
    assert "connection refused" in verdict.message
