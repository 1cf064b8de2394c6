"""Paths: what is resolved, what is refused."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vk_server.conftest import SPDY, Kubelet
from vk.server import paths
from vk.server.paths import BadPathError

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
ANYTHING = st.text(alphabet=st.characters(max_codepoint=0x2FF), max_size=40)
TRICKS = st.sampled_from(
    [
        "%2e%2e",
        "%2E%2E%2f",
        "..",
        ".",
        "..;",
        "%252f",
        "%00",
        "\x00",
        "\r\n",
        "",
        " ",
        "\\",
        "a/../b",
        "%c0%ae",
        "ä",
        "?",
    ]
)


@given(namespace=LABEL, pod=LABEL, container=LABEL, uid=LABEL)
def test_valid_names_are_resolved(namespace: str, pod: str, container: str, uid: str) -> None:
    for route in ("exec", "attach", "run"):
        target = paths.resolve(f"/{route}/{namespace}/{pod}/{uid}/{container}")
        assert target is not None
        assert (target.route.name, target.namespace, target.pod, target.uid, target.container) == (
            route,
            namespace,
            pod,
            uid,
            container,
        )
    target = paths.resolve(f"/portForward/{namespace}/{pod}")
    assert target is not None
    assert (target.pod, target.uid, target.container) == (pod, "", "")


@given(pieces=st.lists(st.one_of(ANYTHING, TRICKS, LABEL), min_size=1, max_size=5), route=st.sampled_from(paths.ROUTES))
def test_a11_whatever_comes_out_is_made_of_rfc1123_names(pieces: list[str], route: paths.Route) -> None:
    raw = "/" + "/".join([route.name, *pieces])
    try:
        path, _ = paths.split(raw)
        target = paths.resolve(path)
    except BadPathError:
        return
    assert not set(path) - set(string.ascii_letters + string.digits + "/._-")
    if target is None:
        return
    for name in (target.namespace, target.pod, target.container, target.uid):
        assert len(name) <= 253
        assert not set(name) - set(string.ascii_letters + string.digits + ".-")
        assert not name.startswith((".", "-"))
        assert ".." not in name


@given(raw=st.text(max_size=200))
def test_a11_nothing_makes_it_fail_in_another_way(raw: str) -> None:
    try:
        path, _ = paths.split(raw)
        paths.subresources(path)
        paths.verb("GET", path)
        paths.resolve(path)
    except BadPathError:
        pass


EVIL = [
    "/exec/%2e%2e/web/app",
    "/exec/default/%2e%2e%2fkube-system%2fpods%2fx/app",
    "/exec/default/..%2f..%2fsecrets/app",
    "/exec/default/..;/app",
    "/exec/default/../kube-system/app",
    "/exec/./default/web/app",
    "/exec/default/web%252fx/app",
    "/exec//web/app",
    "/exec/default//app",
    "/exec/default/web/",
    "//exec/default/web/app",
    "/exec/default/web%00/app",
    "/exec/default/web%0d%0aX-Evil:1/app",
    "/exec/default/web/app%20",
    "/exec/default/web/" + "a" * 64,
    "/exec/" + "a" * 64 + "/web/app",
    "/exec/default/" + "a" * 254 + "/app",
    "/exec/default/Web/app",
    "/exec/default/web/app_1",
    "/exec/default/-web/app",
    "/exec/default/web./app",
    "/exec/default/w..b/app",
    "/exec/default/web/bad_uid!/app",
    "/containerLogs/default/web%2fapp",
    "/exec/default/web\\app",
    "/pods%3fx",
    "http://evil/pods",
    "*",
    "evil:443",
]


@pytest.mark.parametrize("target", EVIL)
async def test_a11_tricks_are_bad_requests_and_make_no_remote_call(kubelet: Kubelet, target: str) -> None:
    answer = await kubelet.ask(target + "?command=id&output=1", method="POST", headers=SPDY)
    assert answer.status == 400
    assert kubelet.provider.heads == []


@pytest.mark.parametrize("raw", [b"/exec/default/we\x00b/app", b"/exec/default/we\x01b/app", b"/exec/default/w b/app"])
async def test_a11_bytes_that_no_path_has(kubelet: Kubelet, raw: bytes) -> None:
    answer = await kubelet.send(b"POST " + raw + b" HTTP/1.1\r\nHost: k\r\n\r\n")
    assert answer.status == 400


@pytest.mark.parametrize("size", [2_000, 64_000])
async def test_a11_long_paths(kubelet: Kubelet, size: int) -> None:
    for tls in (kubelet.admin, kubelet.anonymous):
        answer = await kubelet.ask("/exec/default/" + "a" * size + "/app", method="POST", tls=tls)
        assert answer.status in ((400,) if tls is kubelet.admin else (400, 401))


async def test_long_commands_of_certified_callers_pass(kubelet: Kubelet) -> None:
    argument = "x" * 200_000
    async with kubelet.connect() as (reader, writer):
        lines = [f"POST /exec/default/web/app?command=echo&command={argument}&output=1 HTTP/1.1", "Host: k"]
        writer.write("\r\n".join([*lines, *(f"{k}: {v}" for k, v in SPDY), "", ""]).encode())
        assert b" 101 " in await reader.readline()
    assert dict(kubelet.provider.heads[0].query)["command"] == argument


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/pods", "pods"),
        ("/runningpods/", "runningpods"),
        ("/runningpods", "runningpods"),
        ("/stats/summary", "stats/summary"),
        ("/metrics/resource", "metrics/resource"),
        ("/metrics", "metrics"),
        ("/healthz/syncloop", "healthz"),
        ("/metrics/cadvisor", None),
        ("/pods/", None),
        ("/pods/x", None),
        ("/stats", None),
        ("/exec/a", None),
        ("/containerLogs/a/b/uid/c", None),
        ("/exec/a/b/c/d/e", None),
        ("/", None),
    ],
)
def test_routes(path: str, expected: str | None) -> None:
    target = paths.resolve(path)
    assert (target.route.name if target else None) == expected
