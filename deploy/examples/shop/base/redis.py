"""As much of redis's protocol (RESP) as the shop needs."""

import os
import socket

HOST = os.environ.get("DATABASE", "database-0.database")
TIMEOUT = 3.0


def ask(*words: str) -> object:
    """Send one command on a connection of its own; its answer. OSError if there is none, RuntimeError for a refusal."""
    parts = [word.encode() for word in words]
    request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    with socket.create_connection((HOST, 6379), timeout=TIMEOUT) as connection, connection.makefile("rb") as answers:
        connection.sendall(request)
        return _read(answers)


def _read(answers) -> object:
    line = answers.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the database hung up")
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise RuntimeError(rest.decode())
    if kind == b"$":
        return None if rest == b"-1" else answers.read(int(rest) + 2)[:-2].decode()
    if kind == b"*":
        return [_read(answers) for _ in range(int(rest))]
    return int(rest) if kind == b":" else rest.decode()
