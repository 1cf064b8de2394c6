"""Abuse of a running virtual kubelet: by callers of its kubelet API, and by a provider that lies.

The kubelet API asks a real API server who callers are and what they may do. The provider is a real one behind a proxy
that says what a hostile one would. That nothing reached the provider is read from that proxy's records.
"""

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from deploy import stack
from deploy.lab.cluster import LabCluster
from deploy.lab.pki import Authority
from deploy.lab.proxy import rules
from deploy.lab.proxy.rules import Answer
from tests.cluster.faults import callers
from tests.cluster.faults.callers import SPDY, WEBSOCKET, Caller, Reply
from tests.cluster.faults.world import Json, World
from vk.server.paths import ROUTES

NODES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
ESCAPES = "\x1b]0;pwned\x07\x1b[31m\u202e\x00"


def stream(world: World, name: str = "a", container: str = "main", verb: str = "exec") -> str:
    """The target of a stream into a pod."""
    return f"/{verb}/{world.namespace}/{name}/{container}?command=id&output=1"


def logs(world: World, query: str = "") -> str:
    """The target of a pod's log."""
    return f"/containerLogs/{world.namespace}/a/main?{query}"


def asked_nothing(world: World, since: int) -> bool:
    """Whether the provider has not been asked about any log or stream after the record `since`."""
    return not callers.streamed(world, since=since)


@pytest.fixture
def spoiled(spoiled: World) -> World:
    """A node with a running pod `a`, whose kubelet API serves."""
    spoiled.running("a")
    spoiled.node.wait_serving()
    return spoiled


@contextmanager
def role(cluster: LabCluster, name: str, user: str, *verbs: str) -> Iterator[None]:
    """These verbs on nodes/proxy for a user."""
    rule = {"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": [*verbs]}
    group = "rbac.authorization.k8s.io"
    made = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": [rule]}
    binding = {
        **made,
        "kind": "ClusterRoleBinding",
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    del binding["rules"]
    cluster.api.apply(made)
    cluster.api.apply(binding)
    try:
        yield
    finally:
        cluster.kubectl("delete", "clusterrolebinding,clusterrole", name)


def test_a1_strangers_get_401_everywhere(spoiled: World) -> None:
    stranger, since = Caller(spoiled), len(spoiled.provider_proxy.records)
    targets = [*(f"/{route.name}" for route in ROUTES), stream(spoiled), logs(spoiled), "/debug/pprof/", "/", "/x"]
    for method in ("GET", "POST"):
        answers = {target: stranger.ask(target, method=method) for target in targets}
        assert {(reply.status, reply.text) for reply in answers.values()} == {(401, "Unauthorized")}, answers
    assert asked_nothing(spoiled, since)


def test_a2_certificates_of_others_or_for_servers_do_not_count(spoiled: World, tmp_path: Path) -> None:
    ours = spoiled.node.consumer.ca
    other = Authority(tmp_path / "ca", name="kubernetes")
    for pair in (
        other.client("root", groups=["system:masters"]),
        spoiled.node.provider.ca.client("root", groups=["system:masters"]),
        ours.server("root", hosts=["node"], groups=["system:masters"]),
    ):
        reply = Reply(0, {}, b"")
        with suppress(ssl.SSLError):
            reply = Caller(spoiled, pair).ask("/pods")
        assert reply.status in (0, 401)
    assert callers.administrator(spoiled).ask("/pods").status == 200


def test_a3_a4_rights_decide_and_a_right_to_get_runs_no_commands(spoiled: World) -> None:
    consumer, since = spoiled.node.consumer, len(spoiled.provider_proxy.records)
    eve = Caller(spoiled, consumer.ca.client("eve"))
    for target in ("/pods", "/metrics", logs(spoiled)):
        assert eve.ask(target).status == 403
    reader = Caller(spoiled, consumer.ca.client("reader"))
    with role(consumer, "abuse-reader", "reader", "get"):
        callers.until_allowed(reader, "/pods")
        for verb in ("exec", "attach"):
            assert reader.ask(stream(spoiled, verb=verb), headers=WEBSOCKET).status == 403
        assert reader.ask(f"/portForward/{spoiled.namespace}/a?ports=80", headers=WEBSOCKET).status == 403
    assert asked_nothing(spoiled, since)


def test_a5_service_account_tokens_prove_who_one_is_and_no_more(spoiled: World) -> None:
    caller, since = Caller(spoiled), len(spoiled.provider_proxy.records)

    def asked(token: str) -> int:
        return caller.ask(stream(spoiled), headers=[("Authorization", f"Bearer {token}"), *SPDY]).status

    assert asked(callers.review(spoiled, "default", "someone.else")) == 401
    good = callers.review(spoiled, "default")
    assert asked(good) == 403
    assert asked(good[:-4] + "AAAA") == 401
    assert asked_nothing(spoiled, since)


def test_a6_a7_pods_and_containers_that_are_not_here_are_404(spoiled: World) -> None:
    admin = callers.administrator(spoiled)
    elsewhere = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "elsewhere"},
        "spec": {"nodeName": "another-node", "containers": [{"name": "main", "image": "none:1"}]},
    }
    spoiled.consumer.request("POST", spoiled.path(), body=elsewhere)
    since = len(spoiled.provider_proxy.records)
    for verb in ("exec", "attach"):
        for name in ("elsewhere", "nobody"):
            reply = admin.ask(stream(spoiled, name, verb=verb), method="POST", headers=SPDY)
            assert (reply.status, reply.text) == (404, "pod does not exist")
        reply = admin.ask(stream(spoiled, container="nope", verb=verb), method="POST", headers=SPDY)
        assert (reply.status, reply.text) == (404, 'container not found ("nope")')
    other = f"/exec/{spoiled.namespace}/a/00000000-0000-0000-0000-000000000000/main?command=id&output=1"
    assert admin.ask(other, method="POST", headers=SPDY).status == 404
    assert admin.ask("/exec/kube-system/a/main?command=id&output=1", method="POST", headers=SPDY).status == 404
    assert asked_nothing(spoiled, since)


def test_a8_a_pod_replaced_while_the_provider_is_dialled_gets_nothing(spoiled: World) -> None:
    """The provider says yes to the upgrade, but by then the name is another pod's."""
    admin = callers.administrator(spoiled)
    yes = Answer(101, b"", (("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), *SPDY[2:]))
    spoiled.provider_proxy.add(yes, path="/pods/a/exec$")
    assert admin.ask(stream(spoiled), method="POST", headers=SPDY).status == 101
    late = spoiled.provider_proxy.add(rules.Delay(8.0), path="/pods/a/exec$")
    old = spoiled.uid("a")
    with admin.connected() as connection:
        head = "\r\n".join([f"POST {stream(spoiled)} HTTP/1.1", "Host: n", *(f"{k}: {v}" for k, v in SPDY), "", ""])
        connection.sendall(head.encode())
        spoiled.until(lambda: late.hits, what="the dial")
        spoiled.delete("a", grace=0)
        spoiled.running("a")
        assert spoiled.uid("a") != old
        first = connection.recv(65536)
    assert first.split()[1] == b"404"


def test_a10_a_flood_of_strangers_is_bounded_and_others_are_served(spoiled: World) -> None:
    admin, stranger, pid = callers.administrator(spoiled), Caller(spoiled), spoiled.node.unit.pid

    def resident() -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096

    def metric(name: str) -> float:
        lines = admin.ask("/metrics").text.splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))

    before = resident()
    with ExitStack() as held:
        for number in range(300):
            if number % 3:
                # Some say nothing, some begin a handshake, some have one behind them and are slow to ask.
                plain = held.enter_context(
                    socket.create_connection((spoiled.node.host.ip, stack.KUBELET_PORT), timeout=30)
                )
                with suppress(OSError):
                    plain.sendall(b"\x16\x03\x01" if number % 3 == 1 else b"")
            else:
                with suppress(OSError):
                    held.enter_context(stranger.connected()).sendall(b"GET /pods HTTP/1.1\r\nHost: ")
        assert admin.ask("/healthz").status == 200
        assert metric("isthmus_kubelet_connections_pending") <= 64
        assert metric("isthmus_kubelet_connections_dropped_total") > 0
        assert resident() - before < 50 * 2**20
    spoiled.until(lambda: metric("isthmus_kubelet_connections_pending") <= 1, what="the flood to be gone")


def test_a11_tricks_with_paths_are_bad_requests(spoiled: World) -> None:
    admin, since, ns = callers.administrator(spoiled), len(spoiled.provider_proxy.records), spoiled.namespace
    for trick in (
        f"/exec/{ns}/%2e%2e%2fsecrets/main",
        f"/exec/{ns}/..;/a/main",
        f"/exec/{ns}/a%252fb/main",
        f"/exec//{ns}/a/main",
        f"/exec/{ns}/../{ns}/a/main",
        f"/exec/{ns}/a%00/main",
        f"/exec/{ns}/a%0d%0aX:1/main",
        f"/containerLogs/{ns}/a/{'m' * 64_000}",
        f"/exec/{ns}/A/main",
        "http://169.254.169.254/latest",
    ):
        reply = admin.ask(trick + "?command=id&output=1", method="POST", headers=SPDY)
        assert reply.status == 400, trick
    assert asked_nothing(spoiled, since)


def test_a13_a_request_behind_an_ambiguous_one_is_never_answered(spoiled: World) -> None:
    admin, since = callers.administrator(spoiled), len(spoiled.provider_proxy.records)
    smuggled = b"GET /metrics HTTP/1.1\r\nHost: n\r\n\r\n"
    for framing in (
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: chunked123",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: +5",
        "X-A: b\r\n folded",
    ):
        raw = f"POST {stream(spoiled)} HTTP/1.1\r\nHost: n\r\n{framing}\r\n\r\n0\r\n\r\n".encode()
        reply = admin.send(raw + smuggled)
        assert reply.status == 400, framing
        assert b"HTTP/1." not in reply.body, framing
        assert b"process_resident_memory_bytes" not in reply.body, framing
    assert asked_nothing(spoiled, since)


def test_a14_of_a_callers_headers_only_the_negotiation_reaches_the_provider(spoiled: World) -> None:
    since = len(spoiled.provider_proxy.records)
    forged = (
        ("Connection", "Authorization, X-Remote-User"),
        ("X-Remote-User", "admin"),
        ("Impersonate-User", "system:admin"),
        ("Impersonate-Group", "system:masters"),
        ("X-Forwarded-Client-Cert", "x"),
        ("X-Forwarded-For", "203.0.113.1"),
        ("Cookie", "a=b"),
    )
    callers.administrator(spoiled).ask(stream(spoiled), method="POST", headers=(*SPDY, *forged))
    (record,) = callers.streamed(spoiled, since=since)
    names = {name.lower() for name, _ in record.headers}
    assert {"upgrade", "x-stream-protocol-version"} <= names
    assert not names & {name.lower() for name, _ in forged[1:]}
    assert not any("X-Remote-User" in value for _, value in record.headers)


def test_a15_a16_a31_after_a_refused_upgrade_nothing_is_relayed_and_no_header_comes_back(spoiled: World) -> None:
    headers = (("Content-Type", "application/json"), ("Set-Cookie", "a=b"), ("Location", "https://elsewhere.invalid/"))
    one = f"POST {stream(spoiled)} HTTP/1.1\r\nHost: n\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n".encode()
    for code in (200, 403, 500):
        since = len(spoiled.provider_proxy.records)
        refusal = Answer(code, callers.status_body(code, f"no {ESCAPES}way"), headers)
        spoiled.provider_proxy.clear()
        spoiled.provider_proxy.add(refusal, path="/exec$")
        reply = callers.administrator(spoiled).send(one + one)
        assert reply.status == code
        assert reply.headers["connection"].lower() == "close"
        assert not {"set-cookie", "location"} & reply.headers.keys()
        assert json.loads(reply.body)["message"].isprintable()
        assert len(callers.streamed(spoiled, since=since)) == 1


def test_a16_a31_redirects_of_the_provider_are_not_followed(spoiled: World) -> None:
    since = len(spoiled.provider_proxy.records)
    there = (("Location", f"{spoiled.provider_proxy.url}/api/v1/secrets"), ("Set-Cookie", "a=b"))
    admin = callers.administrator(spoiled)
    for code in (301, 302, 307):
        spoiled.provider_proxy.clear()
        spoiled.provider_proxy.add(Answer(code, b"", there), path="/(exec|log)$")
        for reply in (admin.ask(stream(spoiled), method="POST", headers=SPDY), admin.ask(logs(spoiled))):
            assert reply.status == 502, code
            assert not {"set-cookie", "location"} & reply.headers.keys()
    assert not spoiled.provider_proxy.seen(path="/secrets$", verb="list", since=since)


def test_a19_options_without_sense_are_refused_before_the_provider_is_asked(spoiled: World) -> None:
    admin, since = callers.administrator(spoiled), len(spoiled.provider_proxy.records)
    for query in ("tailLines=-1", "tailLines=1e20", "limitBytes=0", "sinceSeconds=0", "sinceSeconds=1&sinceTime=x"):
        assert admin.ask(logs(spoiled, query)).status in (400, 422), query
    for ports in ("0", "65536", "-1", "80x"):
        target = f"/portForward/{spoiled.namespace}/a?ports={ports}"
        assert admin.ask(target, headers=WEBSOCKET).status == 400, ports
    nothing = f"/exec/{spoiled.namespace}/a/main?command=id"
    assert admin.ask(nothing, method="POST", headers=SPDY).status == 400
    assert asked_nothing(spoiled, since)


def hostile(status: Json) -> Json:
    """What a provider might say of a pod to harm its consumer."""
    container = status["containerStatuses"][0]
    return {
        **status,
        "reason": f"Evil{ESCAPES}",
        "message": ESCAPES * 20_000,
        "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}, {"ip": "169.254.169.254"}],
        "conditions": [
            *status["conditions"],
            *({"type": f"example.com/c{n}", "status": "True", "message": ESCAPES} for n in range(5_000)),
        ],
        "containerStatuses": [
            {**container, "restartCount": -7},
            *({**container, "name": f"other-{n}", "restartCount": 9} for n in range(500)),
        ],
    }


def test_a30_a33_what_a_provider_says_of_a_pod_is_checked_and_made_printable(spoiled: World) -> None:
    spoiled.held_running("b", restarts=2)

    def lie(event: Json) -> list[Json]:
        found = event["object"]
        if found["metadata"].get("name") == "b" and found.get("status", {}).get("containerStatuses"):
            found["status"] = hostile(found["status"])
        return [event]

    told = spoiled.provider_proxy.add(rules.AlterEvents(lie), path=f"/{spoiled.remote_namespace}/pods$", verb="watch")
    spoiled.set_remote_status("b", restarts=2, ready=False)
    spoiled.until(lambda: told.hits, what="the lies")
    spoiled.until(lambda: "Evil" in (spoiled.pod("b") or {})["status"].get("reason", ""), what="the reason")
    pod = spoiled.pod("b")
    assert pod is not None
    status = pod["status"]
    assert len(json.dumps(status)) < 64_000
    assert status["reason"].isprintable()
    assert all(character.isprintable() or character in "\n\t" for character in status.get("message", ""))
    assert status.get("podIP") not in ("127.0.0.1", "169.254.169.254")
    assert [container["name"] for container in status["containerStatuses"]] == ["main"]
    assert status["containerStatuses"][0]["restartCount"] >= 2
    spoiled.provider_proxy.clear()
    spoiled.set_remote_status("b", restarts=3)
    spoiled.until_restarts("b", 3)
    spoiled.check()


def test_a33_the_providers_events_are_told_in_printable_text(spoiled: World) -> None:
    remote = spoiled.remote("a")
    assert remote is not None
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "evil", "namespace": spoiled.remote_namespace},
        "involvedObject": {
            "kind": "Pod",
            "namespace": spoiled.remote_namespace,
            "name": "a",
            "uid": remote["metadata"]["uid"],
        },
        "type": "Warning",
        "reason": "Evil",
        "message": f"look {ESCAPES}here",
        "source": {"component": "kubelet"},
    }
    spoiled.provider.request("POST", f"/api/v1/namespaces/{spoiled.remote_namespace}/events", body=event)
    path = f"/api/v1/namespaces/{spoiled.namespace}/events"
    found: list[str] = []

    def told() -> bool:
        items = spoiled.consumer.request("GET", path)["items"]
        found[:] = [item["message"] for item in items if "look" in item["message"]]
        return bool(found)

    spoiled.until(told, what="the event")
    assert all(message.isprintable() for message in found)


def test_a32_a_log_that_does_not_end_is_bounded_and_held_back(spoiled: World) -> None:
    """The provider neither keeps to limitBytes nor waits to be asked; the caller reads slowly."""
    size = 96 * 2**20
    spoiled.provider_proxy.add(Answer(200, b"x" * size, (("Content-Type", "text/plain"),)), path="/pods/a/log$")
    admin, pid = callers.administrator(spoiled), spoiled.node.unit.pid
    assert admin.ask(logs(spoiled, "limitBytes=10")).body.count(b"x") == 10

    def resident() -> int:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096

    before, most, left, head = resident(), 0, size, bytearray()
    with admin.connected() as connection:
        connection.sendall(
            f"GET {logs(spoiled, 'follow=true')} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in head:
            head += connection.recv(1)
        # The process could take the whole in far less time than this reader does.
        while left > 0 and (piece := connection.recv(65536)):
            left -= piece.count(b"x")
            most = max(most, resident())
    assert left == 0
    assert most - before < size / 3
