"""Traffic between namespaces, by the standard library alone: run as a program inside one (`traffic.py VERB ...`).

serve PORT              TCP and UDP echo on all addresses of both families
tcp HOST PORT BYTES     send and get back so many bytes; prints them; one number more is the port to send from
udp HOST PORT BYTES     one datagram there and back; prints its size, and by whom the server was called
sctp-serve PORT         SCTP echo
sctp HOST PORT BYTES    the same as tcp
peer HOST PORT          prints the source address that the server sees
stream HOST PORT        numbers there and back, every 20 ms, until SIGTERM; then prints JSON:
                        count, longest gap in seconds, error
"""

from __future__ import annotations

import contextlib
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


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    numbers = [int(word) if word.isdigit() else word for word in rest]
    verbs = {"serve": serve, "tcp": tcp, "udp": udp, "peer": peer, "stream": stream}
    verbs |= {"sctp": sctp, "sctp-serve": sctp_serve}
    verbs[verb](*numbers)  # type: ignore[operator]
