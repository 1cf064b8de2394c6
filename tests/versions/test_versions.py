"""The path of a pod and every stream, across versions of Kubernetes: `make test-versions`, docs/versions.md."""

import re
import subprocess
import urllib.request
from pathlib import Path

import pytest

from deploy import stack
from tests import manifests as m
from tests.kubectl import Kubectl, eventually, phase, ready

pytestmark = pytest.mark.timeout(3600)  # two Kubernetes may have to be built first
SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}


@pytest.fixture
def web(consumer: Kubectl) -> Kubectl:
    """A running pod `web` on the virtual node; it serves all tests of a pair."""
    if not consumer.exists("pod", "web"):
        consumer.apply(m.config_map("greeting", text="hello"))
        env = [{"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "greeting", "key": "text"}}}]
        consumer.create(m.pod("web", m.container(env=env)))
    consumer.wait_for("pod", "web", ready)
    return consumer


def test_offload_and_status(consumer: Kubectl) -> None:
    consumer.create(m.pod("brief", m.shell("main", "exit 3"), restartPolicy="Never"))
    found = consumer.wait_for("pod", "brief", phase("Failed"))
    assert found["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    consumer.delete("pod", "brief", "--timeout=30s")


def test_node_is_ready_and_reports_the_providers_version(vnode: stack.VirtualNode, consumer: Kubectl) -> None:
    reported = consumer.get("node", vnode.name)["status"]["nodeInfo"]["kubeletVersion"]
    assert reported == f"v{vnode.provider.plan.version}"


def test_logs(web: Kubectl) -> None:
    eventually(lambda: "HTTP server" in web.run("logs", "web"), what="the log")


@pytest.mark.parametrize("env", [{}, SPDY], ids=["default", "spdy"])
def test_exec(web: Kubectl, env: dict[str, str]) -> None:
    done = web.with_env(**env).result(
        "exec", "-i", "web", "--", "sh", "-c", "cat; echo $GREETING; exit 7", stdin=b"in "
    )
    assert done.stdout == b"in hello\n"
    assert done.returncode == 7


@pytest.mark.parametrize("env", [{}, SPDY], ids=["default", "spdy"])
def test_attach(consumer: Kubectl, env: dict[str, str]) -> None:
    name = f"talk-{'spdy' if env else 'default'}"
    echo = m.shell("main", "read line; echo got $line", stdin=True, stdinOnce=True)
    consumer.create(m.pod(name, echo, restartPolicy="Never"))
    consumer.wait_for("pod", name, ready)
    assert consumer.with_env(**env).result("attach", "-i", name, stdin=b"hello\n").returncode == 0
    eventually(lambda: "got hello" in consumer.run("logs", name), what="the line")


def test_cp(web: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"x" * 100_000)
    web.run("cp", str(tmp_path / "there"), "web:/tmp/there")
    web.run("cp", "web:/tmp/there", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == b"x" * 100_000


@pytest.mark.parametrize("env", [{}, SPDY], ids=["default", "spdy"])
def test_port_forward(web: Kubectl, env: dict[str, str]) -> None:
    process = web.with_env(**env).popen("port-forward", "pod/web", ":8080", stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        match = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline().decode())
        assert match
        with urllib.request.urlopen(f"http://127.0.0.1:{match[1]}/healthz", timeout=10) as answer:
            assert answer.status == 200
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_top(web: Kubectl) -> None:
    web.run("exec", "web", "--", "sh", "-c", "for i in $(seq 200000); do :; done")
    assert eventually(lambda: web.run("top", "pod", "web", "--no-headers"), what="kubectl top pod", timeout=120)
