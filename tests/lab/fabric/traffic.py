"""Traffic between namespaces, by the standard library alone: run as a program inside one (`traffic.py VERB ...`).

serve PORT              TCP and UDP echo on all addresses of both families
tcp HOST PORT BYTES     send and get back so many bytes; prints them; one number more is the port to send from
udp HOST PORT BYTES     one datagram there and back; prints its size, and by whom the server was called
spread HOST PORT COUNT  a datagram of 1,000 bytes there and back from each of so many ports; prints how many came back
sctp-serve PORT         SCTP echo
sctp HOST PORT BYTES    the same as tcp
peer HOST PORT          prints the source address that the server sees
stream HOST PORT        numbers there and back, every 20 ms, until SIGTERM; then prints JSON:
                        count, longest gap in seconds, error
beat HOST PORT          the same by datagrams, one every 100 ms, answered or not; the gap is between answers
dns KIND HOST NAME TYPE asks a server for a name's addresses by udp or tcp; prints them; TYPE is 4 or 6
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import socket
import struct
import sys
import threading
import time

_WHO = b"who"


def serve(port: int) -> None:
    udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    udp.bind(("::", port))
    threading.Thread(target=_serve_udp, args=(udp,), daemon=True).start()
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_serve_tcp, args=(connection,), daemon=True).start()


def _serve_udp(udp: socket.socket) -> None:
    while True:
        data, address = udp.recvfrom(65536)
        with contextlib.suppress(OSError):
            udp.sendto(str(address[0]).removeprefix("::ffff:").encode() if data == _WHO else data, address)


def _serve_tcp(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(data)


def tcp(host: str, port: int, size: int, source: int = 0) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as connection:
        connection.settimeout(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        connection.bind(("", source))
        connection.connect((host, port))
        connection.settimeout(30)  # with loss and an emulated processor TCP may rest for long
        _there_and_back(connection, size)


def _there_and_back(connection: socket.socket, size: int) -> None:
    threading.Thread(target=connection.sendall, args=(bytes(size),), daemon=True).start()
    left = size
    while left:
        data = connection.recv(65536)
        if not data:
            raise SystemExit("closed early")
        left -= len(data)
    sys.stdout.write(f"{size}\n")


def sctp_serve(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as server:
        server.bind(("0.0.0.0", port))
        server.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_serve_tcp, args=(connection,), daemon=True).start()


def sctp(host: str, port: int, size: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as connection:
        connection.settimeout(10)
        connection.connect((host, port))
        _there_and_back(connection, size)


def udp(host: str, port: int, size: int) -> None:
    sys.stdout.write(f"{len(_ask(host, port, bytes(size)))}\n")


def spread(host: str, port: int, count: int) -> None:
    answered = 0
    for _ in range(count):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.settimeout(1)
            sender.connect((host, port))
            sender.send(bytes(1000))
            with contextlib.suppress(TimeoutError, OSError):
                answered += len(sender.recv(65536)) == 1000
    sys.stdout.write(f"{answered}\n")


def peer(host: str, port: int) -> None:
    sys.stdout.write(_ask(host, port, _WHO).decode() + "\n")


def _ask(host: str, port: int, data: bytes) -> bytes:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.settimeout(1)
        for _ in range(4):
            with contextlib.suppress(TimeoutError, OSError):
                sender.sendto(data, (host, port))
                return sender.recv(65536)
    raise SystemExit("no answer")


AFTER = 20
"""Exchanges of a stream after it was told to end."""
BEAT = 0.1
SILENCE = 120.0


def stream(host: str, port: int) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    count, longest, error, after = 0, 0.0, "", 0
    try:
        with socket.create_connection((host, port), timeout=5) as connection:
            connection.settimeout(120)
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            before = time.monotonic()
            while after < AFTER:  # what the stream does at the end shows that it goes on, however slow the machine
                sent = struct.pack("!Q", count)
                connection.sendall(sent)
                got = b""
                while len(got) < len(sent) and (part := connection.recv(len(sent) - len(got))):
                    got += part
                if got != sent:
                    raise SystemExit(f"sent {sent!r}, got {got!r}")
                count += 1
                after += stop.is_set()
                longest, before = max(longest, time.monotonic() - before), time.monotonic()
                time.sleep(0.02)
    except OSError as failure:
        error = repr(failure)
    sys.stdout.write(json.dumps({"count": count, "gap": longest, "error": error}) + "\n")


def beat(host: str, port: int) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    count, longest, after, error = 0, 0.0, 0, ""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((host, port))
        sender.settimeout(BEAT)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        before = end = time.monotonic()
        for number in itertools.count():
            due = end + number * BEAT
            time.sleep(max(0.0, due - time.monotonic()))
            # While there is no way the kernel may say so, and a late answer counts as well.
            with contextlib.suppress(OSError):
                sender.send(struct.pack("!Q", number))
                sender.recv(64)
                count += 1
                after += stop.is_set()
                longest, before = max(longest, time.monotonic() - before), time.monotonic()
            if after >= AFTER:
                break
            if time.monotonic() - before > SILENCE:
                error = f"no answer for {SILENCE} s"
                break
    sys.stdout.write(json.dumps({"count": count, "gap": longest, "error": error}) + "\n")


def dns(kind: str, host: str, name: str, version: int) -> None:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    record = {4: 1, 6: 28}[version]
    query = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", record, 1)
    if kind == "udp":
        answer = _ask(host, 53, query)
    else:
        with socket.create_connection((host, 53), timeout=5) as connection:
            connection.sendall(struct.pack("!H", len(query)) + query)
            stream = connection.makefile("rb")
            answer = stream.read(struct.unpack("!H", stream.read(2))[0])
    family, size = (socket.AF_INET, 4) if version == 4 else (socket.AF_INET6, 16)
    at = len(query)  # the question is repeated before the answers
    for _ in range(struct.unpack("!H", answer[6:8])[0]):
        at = _after_name(answer, at) + 10  # type, class, time to live, length
        sys.stdout.write(socket.inet_ntop(family, answer[at : at + size]) + "\n")
        at += size


def _after_name(message: bytes, at: int) -> int:
    """A name is labels and a zero, or ends in a pointer of two bytes to another one."""
    while 0 < message[at] < 0xC0:
        at += 1 + message[at]
    return at + 2 if message[at] else at + 1


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    numbers = [int(word) if word.isdigit() else word for word in rest]
    verbs = {"serve": serve, "tcp": tcp, "udp": udp, "peer": peer, "stream": stream, "beat": beat}
    verbs |= {"spread": spread, "sctp": sctp, "sctp-serve": sctp_serve, "dns": dns}
    verbs[verb](*numbers)  # type: ignore[operator]
