"""What a known caller may do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.vk_server.conftest import NODE, SPDY, WEBSOCKET, Kubelet
from vk.server.authentication import User
from vk.server.authorization import ALLOWED_LIFETIME, DENIED_LIFETIME, Authorizer
from vk.server.cache import ExpiringCache


@pytest.mark.parametrize(
    ("target", "method", "asked"),
    [
        ("/pods", "GET", [("get", "pods"), ("get", "proxy")]),
        ("/runningpods/", "GET", [("get", "pods"), ("get", "proxy")]),
        ("/healthz", "GET", [("get", "healthz"), ("get", "proxy")]),
        ("/healthz/ping", "HEAD", [("get", "healthz"), ("get", "proxy")]),
        ("/configz", "GET", [("get", "configz"), ("get", "proxy")]),
        ("/stats/summary", "GET", [("get", "stats")]),
        ("/metrics", "GET", [("get", "metrics")]),
        ("/metrics/resource", "GET", [("get", "metrics")]),
        ("/metrics/resource", "PUT", [("update", "metrics")]),
        ("/logs/messages", "GET", [("get", "log")]),
        ("/checkpoint/a/b/c", "POST", [("create", "checkpoint")]),
        ("/containerLogs/default/web/app", "GET", [("get", "proxy")]),
        ("/exec/default/web/app", "POST", [("create", "proxy")]),
        ("/unknown", "DELETE", [("delete", "proxy")]),
        ("/metricsx", "GET", [("get", "proxy")]),
    ],
)
async def test_a3_without_a_right_it_is_403(
    kubelet: Kubelet, target: str, method: str, asked: list[tuple[str, str]]
) -> None:
    kubelet.reviews.allow = lambda _spec: False
    answer = await kubelet.ask(target, method=method) if method != "HEAD" else None
    if answer is None:
        async with kubelet.connect() as (reader, writer):
            writer.write(f"HEAD {target} HTTP/1.1\r\nHost: k\r\n\r\n".encode())
            assert b" 403 " in await reader.readline()
    else:
        listed = " ".join(subresource for _, subresource in asked)
        verb = asked[0][0]
        text = f"Forbidden (user=apiserver, verb={verb}, resource=nodes, subresource(s)=[{listed}])\n"
        assert (answer.status, answer.text) == (403, text)
    assert kubelet.reviews.attributes() == asked
    assert kubelet.provider.heads == []


async def test_a3_the_review_says_who_and_which_node(kubelet: Kubelet) -> None:
    await kubelet.ask("/pods")
    spec = kubelet.reviews.asked[0]["spec"]
    assert spec["user"] == "apiserver"
    assert spec["groups"] == ["system:masters", "system:authenticated"]
    assert spec["resourceAttributes"] == {
        "verb": "get",
        "version": "v1",
        "resource": "nodes",
        "subresource": "pods",
        "name": NODE,
    }


async def test_a3_any_allow_wins(kubelet: Kubelet) -> None:
    kubelet.reviews.allow = lambda spec: spec["resourceAttributes"]["subresource"] == "proxy"
    assert (await kubelet.ask("/pods")).status == 200
    kubelet.reviews.allow = lambda spec: spec["resourceAttributes"]["subresource"] == "healthz"
    assert (await kubelet.ask("/healthz")).status == 200
    assert (await kubelet.ask("/stats/summary")).status == 403


async def test_a3_if_nobody_can_be_asked_it_is_403(kubelet: Kubelet) -> None:
    kubelet.reviews.down = True
    assert (await kubelet.ask("/pods")).status == 403
    kubelet.reviews.down = False
    assert (await kubelet.ask("/pods")).status == 200


@pytest.mark.parametrize(("allowed", "lifetime"), [(True, ALLOWED_LIFETIME), (False, DENIED_LIFETIME)])
async def test_a3_decisions_are_kept_and_end(allowed: bool, lifetime: float) -> None:
    calls, now = 0, 1000.0

    class Server:
        async def create(self, resource: object, body: object, /) -> Any:
            nonlocal calls
            calls += 1
            return {"status": {"allowed": allowed}}

    authorizer = Authorizer(Server(), node_name=NODE, clock=lambda: now)
    user = User("x")
    for _ in range(3):
        assert await authorizer.allowed(user, verb="get", subresources=("pods",)) is allowed
    assert calls == 1
    now += lifetime - 0.1
    await authorizer.allowed(user, verb="get", subresources=("pods",))
    assert calls == 1
    now += 0.2
    await authorizer.allowed(user, verb="get", subresources=("pods",))
    assert calls == 2
    await authorizer.allowed(User("y"), verb="get", subresources=("pods",))
    await authorizer.allowed(user, verb="create", subresources=("pods",))
    assert calls == 4
    assert ALLOWED_LIFETIME <= 300
    assert DENIED_LIFETIME <= 30


@pytest.mark.parametrize("status", [{}, None, {"allowed": "yes"}, {"allowed": True, "denied": True}])
async def test_a3_only_a_clear_yes_is_a_yes(status: object) -> None:
    class Server:
        async def create(self, resource: object, body: object, /) -> Any:
            return {"status": status}

    authorizer = Authorizer(Server(), node_name=NODE)
    assert not await authorizer.allowed(User("x"), verb="get", subresources=("pods",))


@pytest.mark.parametrize(
    "target",
    [
        "/exec/default/web/app?command=id&output=1",
        "/attach/default/web/app?output=1",
        "/portForward/default/web?port=80",
        "/run/default/web/app?cmd=id",
        "/exec/default/web/11111111-2222-3333-4444-555555555555/app?output=1",
    ],
)
async def test_a4_a_right_to_get_runs_no_commands(kubelet: Kubelet, target: str) -> None:
    kubelet.reviews.allow = lambda spec: spec["resourceAttributes"]["verb"] == "get"
    for method in ("GET", "POST", "PUT", "HEAD"):
        async with kubelet.connect() as (reader, writer):
            lines = [f"{method} {target} HTTP/1.1", "Host: k", *(f"{k}: {v}" for k, v in WEBSOCKET)]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            assert b" 403 " in await reader.readline()
    assert set(kubelet.reviews.attributes()) == {("create", "proxy")}
    assert kubelet.provider.heads == []


async def test_unknown_methods_are_never_allowed(kubelet: Kubelet) -> None:
    assert (await kubelet.ask("/pods", method="PROPFIND", headers=SPDY[:0])).status == 403
    assert kubelet.reviews.asked == []


async def test_the_cache_is_bounded_and_drops_the_least_used() -> None:
    cache: ExpiringCache[int, int] = ExpiringCache(capacity=3)
    loads: list[int] = []

    async def get(key: int) -> int:
        async def load() -> tuple[int, float]:
            loads.append(key)
            return key, 60.0

        return await cache.get(key, load=load)

    for key in (1, 2, 3, 1, 4, 1, 2):
        assert await get(key) == key
    assert loads == [1, 2, 3, 4, 2]
    assert len(cache) == 3
