"""logs, exec, attach, cp and port-forward through the virtual node, byte for byte."""

import concurrent.futures
import contextlib
import hashlib
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time
import urllib.request
from collections.abc import Callable, Iterator
from fcntl import ioctl
from pathlib import Path

import pytest

from deploy.lab import binaries
from tests import manifests as m
from tests.kubectl import Kubectl, eventually, ready

MIB = 1 << 20
SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
VERSIONS = ["1.29", "1.31", "1.34", "1.37"]


@pytest.fixture
def web(consumer: Kubectl) -> Kubectl:
    """A namespace with a running pod `web`."""
    consumer.create(m.pod("web"))
    consumer.wait_for("pod", "web", ready)
    return consumer


@pytest.fixture(params=["websocket", "spdy"])
def either(request: pytest.FixtureRequest, web: Kubectl) -> Kubectl:
    """The same by either protocol between kubectl and the API server."""
    return web.with_env(**SPDY) if request.param == "spdy" else web


def test_exec_gives_output_errors_and_exit_code(either: Kubectl) -> None:
    done = either.result("exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert done.stdout == b"out\n"
    assert b"err\n" in done.stderr
    assert done.returncode == 7


def test_exec_output_is_complete_every_time(either: Kubectl) -> None:
    wanted = b"".join(b"%d\n" % i for i in range(1, 20001))
    for _ in range(10):
        assert either.result("exec", "web", "--", "seq", "20000").stdout == wanted


def test_exec_passes_stdin_and_its_end(either: Kubectl) -> None:
    done = either.result("exec", "-i", "web", "--", "sh", "-c", "cat; echo; echo after-eof", stdin=b"hello")
    assert done.stdout == b"hello\nafter-eof\n"


def test_100_mb_through_exec_both_ways(either: Kubectl) -> None:
    data = os.urandom(100 * MIB)
    digest = hashlib.sha256(data).hexdigest()
    up = either.result(
        "exec", "-i", "web", "--", "sh", "-c", "cat > /tmp/big; sha256sum /tmp/big", stdin=data, timeout=120
    )
    assert up.stdout.split()[0].decode() == digest
    down = _complete(either, 100 * MIB, "exec", "web", "--", "cat", "/tmp/big")
    assert (down.returncode, down.stderr, len(down.stdout)) == (0, b"", 100 * MIB)
    assert hashlib.sha256(down.stdout).hexdigest() == digest


def _complete(kubectl: Kubectl, size: int, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
    """As it is if it has so many bytes, or as it is the third time.

    On a busy machine kubectl, API servers and kubelets lose the end of a large output, and kubectl calls that a success
    (kubernetes/kubernetes#124571): of 100 MB one time in eight beside ten busy loops, without isthmus, by either
    protocol. That isthmus itself loses nothing of what it is given is tested where nothing else is in the way
    (tests/unit/vk_server/test_splice.py).
    """
    for _ in range(3):
        done = kubectl.result(*arguments, timeout=120)
        if len(done.stdout) >= size:
            break
    return done


def test_a_command_that_reads_its_input_late_gets_all_of_it(web: Kubectl) -> None:
    """Longer than a dead provider would be borne with, and more than fits into all that is in between."""
    data = os.urandom(64 * MIB)
    late = "sleep 16; sha256sum"
    done = web.result("exec", "-i", "web", "--", "sh", "-c", late, stdin=data, timeout=120)
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()


def test_cp_of_a_folder_both_ways(either: Kubectl, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "file").write_bytes(os.urandom(MIB))
    (source / "empty").write_bytes(b"")
    either.run("cp", str(source), "web:/tmp/copied")
    either.run("cp", "web:/tmp/copied", str(tmp_path / "back"))
    for file in ("deep/file", "empty"):
        assert (tmp_path / "back" / file).read_bytes() == (source / file).read_bytes()


def test_50_exec_sessions_at_once(web: Kubectl) -> None:
    def session(number: int) -> bytes:
        return web.result("exec", "-i", "web", "--", "cat", stdin=b"%d" % number, timeout=120).stdout

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(session, range(50)))
    assert answers == [b"%d" % i for i in range(50)]


def test_exec_with_a_terminal_follows_its_size(either: Kubectl) -> None:
    with _terminal(either, "exec", "-it", "web", "--", "sh") as terminal:
        terminal.until(rb"[#$] ")
        terminal.resize(rows=41, columns=101)
        eventually(lambda: b"41 101" in terminal.ask("stty size"), what="the new size", timeout=15)
        terminal.send("exit 5\n")
        assert terminal.process.wait(timeout=15) == 5


def test_attach_reads_and_writes_the_main_process(either: Kubectl) -> None:
    script = "while read line; do echo got $line; [ $line = quit ] && exit 0; done"
    either.create(m.pod("talk", m.shell("main", script, stdin=True, stdinOnce=True), restartPolicy="Never"))
    either.wait_for("pod", "talk", ready)
    done = either.result("attach", "-i", "talk", stdin=b"hello\nquit\n")
    assert done.returncode == 0
    eventually(lambda: "got hello" in either.run("logs", "talk"), what="the line in the log")


def test_port_forward_serves_http_and_a_large_download(either: Kubectl) -> None:
    make = "mkdir /tmp/www; head -c 104857600 /dev/urandom > /tmp/www/big; sha256sum /tmp/www/big"
    script = f"{make}; exec httpd -f -p 8081 -h /tmp/www"
    either.create(m.pod("files", m.shell("main", script)))
    either.wait_for("pod", "files", ready)
    digest = eventually(lambda: either.run("logs", "files").split(), what="the digest")[0]
    with _forwarded(either, "files", 8081) as port:
        for _ in range(2):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/big", timeout=120) as answer:
                assert hashlib.sha256(answer.read()).hexdigest() == digest


def test_port_forward_to_a_closed_port_reports_and_lives_on(web: Kubectl) -> None:
    with _forwarded(web, "web", 9) as port, contextlib.suppress(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10)
    with _forwarded(web, "web", 8080) as port:
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10).status == 200


def test_logs_by_tail_since_bytes_and_timestamps(consumer: Kubectl) -> None:
    consumer.create(m.pod("count", m.shell("main", "for i in 1 2 3 4 5; do echo line $i; done; sleep 600")))
    consumer.wait_for("pod", "count", ready)
    eventually(lambda: "line 5" in consumer.run("logs", "count"), what="all lines")
    assert consumer.run("logs", "count", "--tail=2") == "line 4\nline 5\n"
    assert consumer.run("logs", "count", "--limit-bytes=6") == "line 1"
    assert consumer.run("logs", "count", "--since=1h").count("\n") == 5
    stamped = consumer.run("logs", "count", "--timestamps", "--tail=1")
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z line 5\n", stamped)
    since = consumer.run("logs", "count", "--since-time=2099-01-01T00:00:00Z")
    assert since == ""


def test_logs_follow_until_the_end(consumer: Kubectl) -> None:
    consumer.create(m.pod("ticks", m.shell("main", "for i in 1 2 3; do echo $i; sleep 1; done"), restartPolicy="Never"))
    consumer.wait_for("pod", "ticks", lambda p: p["status"].get("containerStatuses"))
    done = eventually(
        lambda: d if (d := consumer.result("logs", "-f", "ticks")).returncode == 0 else None, what="logs -f", timeout=30
    )
    assert done is not None
    assert done.stdout == b"1\n2\n3\n"


def test_errors_are_the_kubelets_own(web: Kubectl) -> None:
    assert b"container nope is not valid" in web.result("logs", "web", "-c", "nope").stderr
    assert b"container not found" in web.result("exec", "web", "-c", "nope", "--", "true").stderr.lower() or (
        web.result("exec", "web", "-c", "nope", "--", "true").returncode != 0
    )
    missing = web.result("exec", "web", "--", "/does-not-exist")
    assert missing.returncode != 0
    assert b"no such file" in missing.stderr


def test_debug_adds_an_ephemeral_container(web: Kubectl) -> None:
    image = (f"--image={m.IMAGE}", "--image-pull-policy=IfNotPresent")
    web.run("debug", "web", *image, "--container=dbg", "--", "sh", "-c", "echo here; sleep 600")
    web.wait_for(
        "pod",
        "web",
        lambda p: any(c["state"].get("running") for c in p["status"].get("ephemeralContainerStatuses") or ()),
        what="the ephemeral container to run",
    )
    eventually(lambda: web.run("logs", "web", "-c", "dbg") == "here\n", what="its log")
    assert web.result("exec", "web", "-c", "dbg", "--", "echo", "in").stdout == b"in\n"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("env", [{}, SPDY], ids=["default", "spdy"])
def test_every_kubectl_version(web: Kubectl, version: str, env: dict[str, str], tmp_path: Path) -> None:
    other = Kubectl(binaries.kubectl(version), web.kubeconfig, web.namespace, env)
    assert other.result("exec", "web", "--", "sh", "-c", "echo yes; exit 3").returncode == 3
    assert other.result("exec", "-i", "web", "--", "cat", stdin=b"abc").stdout == b"abc"
    assert "HTTP server" in other.run("logs", "web")
    (tmp_path / "f").write_bytes(b"x" * 100_000)
    other.run("cp", str(tmp_path / "f"), "web:/tmp/f")
    assert other.result("exec", "web", "--", "wc", "-c", "/tmp/f").stdout.split()[0] == b"100000"
    with _forwarded(other, "web", 8080) as port:
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10).status == 200


@contextlib.contextmanager
def _forwarded(kubectl: Kubectl, pod: str, port: int) -> Iterator[int]:
    """A local port that kubectl forwards to the pod's."""
    process = kubectl.popen("port-forward", f"pod/{pod}", f":{port}", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        match = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert match, f"kubectl said {line!r}"
        local = int(match.group(1))
        eventually(lambda: _accepts(local), what="the forwarded port", timeout=10)
        yield local
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _accepts(port: int) -> bool:
    """Whether someone listens on the local port; kubectl opens a stream for it, and closes it again."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class _Terminal:
    """kubectl on a pseudo terminal."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int) -> None:
        self.process = process
        self._master = master

    def send(self, text: str) -> None:
        os.write(self._master, text.encode())

    def resize(self, *, rows: int, columns: int) -> None:
        ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def until(self, pattern: bytes, *, timeout: float = 15) -> bytes:
        return self._read(lambda seen: re.search(pattern, seen) is not None, timeout=timeout)

    def ask(self, command: str) -> bytes:
        """What a shell answers within half a second."""
        self.send(command + "\n")
        return self._read(lambda _seen: False, timeout=0.5)

    def _read(self, enough: Callable[[bytes], bool], *, timeout: float) -> bytes:
        seen, deadline = b"", time.monotonic() + timeout
        while not enough(seen) and (left := deadline - time.monotonic()) > 0:
            if select.select([self._master], [], [], left)[0]:
                seen += os.read(self._master, 65536)
        return seen


@contextlib.contextmanager
def _terminal(kubectl: Kubectl, *arguments: str) -> Iterator[_Terminal]:
    master, slave = pty.openpty()
    process = kubectl.popen(*arguments, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    try:
        yield _Terminal(process, master)
    finally:
        process.kill()
        process.wait(timeout=10)
        os.close(master)
