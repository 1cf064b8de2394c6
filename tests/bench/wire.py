"""What is measured between two network namespaces, by the standard library alone: run as a program inside one.

serve PORT               TCP: swallows a stream and says how much, or answers exchanges; UDP: echo, never in fragments
bulk HOST PORT SECONDS   one TCP stream for so long; prints JSON: bits that arrived, seconds, the whole machine's busy
                         CPU seconds meanwhile, bytes of payload in a segment; one number more is how many streams
ask HOST PORT COUNT      exchanges of 64 bytes over one TCP connection, one by one; prints JSON: seconds of each
flows HOST PORT COUNT    the same with UDP, each from another port, so that each is a new flow
largest HOST PORT        prints the largest packet, IP header included, that passes both ways in one piece
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_CHUNK = 1 << 20
_SMALL = 64
_BULK, _ASK = b"B", b"A"
_HEADERS = 28
_IP_MTU_DISCOVER, _PROBE = 10, 3  # linux/in.h: not in fragments, and whatever the kernel thinks of the way
_TRIES, _WAIT = 3, 0.2
_TICKS = os.sysconf("SC_CLK_TCK")


def busy_seconds() -> float:
    """CPU time of the whole machine so far, all that is neither idle nor stolen by other machines (proc(5))."""
    user, nice, system, _idle, _iowait, irq, softirq = (
        int(word) for word in Path("/proc/stat").read_text().split(maxsplit=9)[1:8]
    )
    return (user + nice + system + irq + softirq) / _TICKS


def serve(port: int) -> None:
    udp = _datagrams()
    udp.bind(("0.0.0.0", port))
    threading.Thread(target=_echo, args=(udp,), daemon=True).start()
    with socket.create_server(("0.0.0.0", port)) as server:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_serve_one, args=(connection,), daemon=True).start()


def _echo(udp: socket.socket) -> None:
    while True:
        data, address = udp.recvfrom(65536)
        with contextlib.suppress(OSError):
            udp.sendto(data, address)


def _serve_one(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection, contextlib.suppress(OSError):
        if connection.recv(1) == _ASK:
            while data := connection.recv(_SMALL):
                connection.sendall(data)
            return
        buffer, count = bytearray(_CHUNK), 0
        while got := connection.recv_into(buffer):
            count += got
        connection.sendall(struct.pack("!Q", count))


def bulk(host: str, port: int, seconds: int, streams: int = 1) -> None:
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(streams) as pool:
        opened = [stack.enter_context(socket.create_connection((host, port), timeout=60)) for _ in range(streams)]
        for connection in opened:
            connection.sendall(_BULK)
        busy, began = busy_seconds(), time.monotonic()
        count = sum(pool.map(lambda connection: _stream(connection, began + seconds), opened))
        found = {
            "bits": 8 * count,
            "seconds": time.monotonic() - began,
            "busy": busy_seconds() - busy,
            "segment": opened[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG),
        }
    sys.stdout.write(json.dumps(found) + "\n")


def _stream(connection: socket.socket, until: float) -> int:
    """Send until then; how many bytes arrived."""
    data = memoryview(bytes(_CHUNK))
    while time.monotonic() < until:
        connection.send(data)
    connection.shutdown(socket.SHUT_WR)
    (count,) = struct.unpack("!Q", _exactly(connection, 8))
    return int(count)


def ask(host: str, port: int, count: int) -> None:
    found = []
    with socket.create_connection((host, port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(_ASK)
        for _ in range(count):
            began = time.perf_counter()
            connection.sendall(bytes(_SMALL))
            _exactly(connection, _SMALL)
            found.append(time.perf_counter() - began)
    sys.stdout.write(json.dumps(found) + "\n")


def flows(host: str, port: int, count: int) -> None:
    found = []
    for _ in range(count):
        with _datagrams() as sender:
            sender.settimeout(5)
            sender.connect((host, port))
            began = time.perf_counter()
            sender.send(bytes(_SMALL))
            sender.recv(_SMALL)
            found.append(time.perf_counter() - began)
    sys.stdout.write(json.dumps(found) + "\n")


def largest(host: str, port: int) -> None:
    passes, fails = _SMALL, 65536
    with _datagrams() as sender:
        sender.connect((host, port))
        sender.settimeout(_WAIT)
        while fails - passes > 1:
            middle = (passes + fails) // 2
            if _passes(sender, middle - _HEADERS):
                passes = middle
            else:
                fails = middle
    sys.stdout.write(f"{passes}\n")


def _passes(sender: socket.socket, size: int) -> bool:
    for _ in range(_TRIES):
        with contextlib.suppress(OSError):
            sender.send(bytes(size))
            # An answer to an earlier and smaller one may be late.
            while (got := len(sender.recv(65536))) != size:
                if got > size:
                    break
            if got == size:
                return True
    return False


def _datagrams() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PROBE)
    return made


def _exactly(connection: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        part = connection.recv(size - len(got))
        if not part:
            raise SystemExit("closed early")
        got += part
    return got


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    verbs = {"serve": serve, "bulk": bulk, "ask": ask, "flows": flows, "largest": largest}
    verbs[verb](*(int(word) if word.isdigit() else word for word in rest))  # type: ignore[operator]
