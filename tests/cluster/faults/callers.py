"""Callers of a running kubelet API: whoever they are, and whatever bytes they send."""

import json
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from deploy import stack
from deploy.lab.pki import Pair
from deploy.lab.proxy.server import Record
from tests.cluster.faults.world import World

Headers = Sequence[tuple[str, str]]

SPDY: Headers = (
    ("Connection", "Upgrade"),
    ("Upgrade", "SPDY/3.1"),
    ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
)
WEBSOCKET: Headers = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Protocol", "v4.channel.k8s.io"),
)
_PATIENCE = 30.0


@dataclass(frozen=True)
class Reply:
    """The first answer on a connection, and everything that came after its head."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")


class Caller:
    """One who calls a node's kubelet API, with a certificate of his own or none."""

    def __init__(self, world: World, pair: Pair | None = None) -> None:
        self._address = (world.node.host.ip, stack.KUBELET_PORT)
        self._tls = ssl.create_default_context(cafile=str(world.node.consumer.ca.files.certificate))
        if pair is not None:
            with tempfile.NamedTemporaryFile(suffix=".pem") as file:
                Path(file.name).write_bytes(pair.certificate + pair.key)
                self._tls.load_cert_chain(file.name)

    @contextmanager
    def connected(self) -> Iterator[ssl.SSLSocket]:
        """A connection on which nothing has been said yet."""
        with (
            socket.create_connection(self._address, timeout=_PATIENCE) as plain,
            self._tls.wrap_socket(plain, server_hostname=self._address[0]) as connection,
        ):
            yield connection

    def ask(self, target: str, *, method: str = "GET", headers: Headers = ()) -> Reply:
        """Send one request; the answer to it."""
        lines = [f"{method} {target} HTTP/1.1", "Host: node", *(f"{key}: {value}" for key, value in headers)]
        if not headers:
            lines.append("Connection: close")
        return self.send("\r\n".join([*lines, "", ""]).encode(), to_the_end=False)

    def send(self, raw: bytes, *, to_the_end: bool = True) -> Reply:
        """Send bytes; read until the connection ends, or only the first answer. Status 0 if there was none."""
        received = bytearray()
        with suppress(ConnectionError), self.connected() as connection:
            connection.sendall(raw)
            while (to_the_end or not _complete(bytes(received))) and (piece := connection.recv(65536)):
                received += piece
        return _reply(bytes(received))


def _reply(received: bytes) -> Reply:
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.partition(": ") for line in lines)
    return Reply(int(first.split()[1]) if first else 0, {key.lower(): value for key, _, value in fields}, body)


def _complete(received: bytes) -> bool:
    """Whether an answer that says its length is there."""
    if b"\r\n\r\n" not in received:
        return False
    reply = _reply(received)
    return reply.status == 101 or len(reply.body) >= int(reply.headers.get("content-length", "1000000000"))


def administrator(world: World) -> Caller:
    """One who may do everything."""
    return Caller(world, world.node.consumer.ca.client("root", groups=["system:masters"]))


def until_allowed(caller: Caller, target: str) -> None:
    """Until a right that has just been given is known."""
    deadline = time.monotonic() + 60
    while (reply := caller.ask(target)).status != 200:
        assert time.monotonic() < deadline, reply
        time.sleep(0.5)


def streamed(world: World, *, since: int) -> list[Record]:
    """What the provider was asked about pods' logs and streams, after the record `since`."""
    return world.provider_proxy.seen(path="/pods/[^/]+/(exec|attach|portforward|log)$", since=since)


def review(world: World, account: str, *audiences: str) -> str:
    """A service account's token for these audiences; without any, for the consumer's API server."""
    path = f"/api/v1/namespaces/{world.namespace}/serviceaccounts/{account}/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [*audiences]}}
    token: str = world.consumer.request("POST", path, body=body)["status"]["token"]
    return token


def status_body(code: int, message: str) -> bytes:
    """A Status object as an API server writes it."""
    kind = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Why", "code": code}
    return json.dumps({**kind, "message": message}).encode()
