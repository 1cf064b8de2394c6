"""Clients other than kubectl, and what must never be written down."""

import base64
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

from kubernetes import client as kubernetes_client
from kubernetes import config as kubernetes_config
from kubernetes.stream import stream

from deploy import stack
from tests import manifests as m
from tests.kubectl import Kubectl, eventually, phase, ready

WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "v5.channel.k8s.io",
}


def test_the_python_clients_websocket_stream(consumer: Kubectl) -> None:
    consumer.create(m.pod("web"))
    consumer.wait_for("pod", "web", ready)
    load: Any = kubernetes_config.new_client_from_config  # the library has no types
    with load(str(consumer.kubeconfig)) as api_client:
        core = kubernetes_client.CoreV1Api(api_client)
        session = stream(
            core.connect_get_namespaced_pod_exec,
            "web",
            consumer.namespace,
            command=["sh", "-c", "read line; echo got $line; echo err >&2; exit 4"],
            stdin=True,
            stdout=True,
            stderr=True,
            tty=False,
            _preload_content=False,
        )
        session.write_stdin("hello\n")
        session.run_forever(timeout=20)
        assert session.read_stdout() == "got hello\n"
        assert session.read_stderr() == "err\n"
        assert session.returncode == 4
        session.close()
        session.sock.shutdown()  # the library leaves its socket open when the server was the first to close


def test_f39_clients_that_vanish_leave_no_stream_behind(consumer: Kubectl, vnode: stack.VirtualNode) -> None:
    consumer.create(m.pod("web"))
    consumer.wait_for("pod", "web", ready)
    pod = f"/api/v1/namespaces/{consumer.namespace}/pods/web"
    followers, commands = [f"{pod}/log?follow=true"] * 4, [f"{pod}/exec?stdout=true&command=sleep&command=60"]
    before = _descriptors(vnode)
    for _ in range(20):
        with ThreadPoolExecutor(5) as threads:
            clients = list(threads.map(partial(_stream, vnode), (followers + commands) * 5))
        open_now = _descriptors(vnode)
        for client in clients:
            _reset(client)
        assert open_now >= before + len(clients)
        eventually(lambda: _descriptors(vnode) <= before + 5, what="the streams to be closed", timeout=30)
    assert consumer.result("exec", "web", "--", "echo", "fine").stdout == b"fine\n"


def _stream(vnode: stack.VirtualNode, path: str) -> HTTPSConnection:
    return vnode.consumer.api.streaming(path, headers=WEBSOCKET if "/exec?" in path else None)


def _reset(client: HTTPSConnection) -> None:
    """End the connection without a word: by RST, and without TLS' close_notify."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _descriptors(vnode: stack.VirtualNode) -> int:
    return len(list(Path(f"/proc/{vnode.unit.pid}/fd").iterdir()))


def test_a38_secrets_reach_no_log_event_metric_or_argument(consumer: Kubectl, vnode: stack.VirtualNode) -> None:
    canary = f"canary-{time.time_ns()}"
    consumer.apply(m.secret("keep", password=canary))
    env = [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "keep", "key": "password"}}}]
    consumer.create(m.pod("user", m.shell("main", 'test -n "$P"', env=env), restartPolicy="Never"))
    consumer.wait_for("pod", "user", phase("Succeeded"))
    consumer.create(m.pod("bad", {**m.container(env=env), "image": "isthmus.invalid/none", "imagePullPolicy": "Never"}))
    eventually(
        lambda: consumer.list("events", "--field-selector=involvedObject.name=bad,type=Warning"), what="the warning"
    )
    metrics = consumer.run("get", "--raw", f"/api/v1/nodes/{vnode.name}/proxy/metrics")
    written = {
        "log": vnode.unit.log.read_text(errors="replace"),
        "arguments": Path(f"/proc/{vnode.unit.pid}/cmdline").read_text(),
        "metrics": metrics,
        "events": consumer.run("get", "events", "-o", "yaml"),
        "pods": consumer.run("get", "pods", "-o", "yaml"),
    }
    for where, text in written.items():
        for secret in (canary, base64.b64encode(canary.encode()).decode(), "PRIVATE KEY", "eyJhbGciOi"):
            assert secret not in text, f"{secret[:6]}... is in the {where}"
