"""Connections that are kept from one GET to the next, against a real server."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy.lab import pki
from deploy.lab.connections import Answer, Connections


class Server(ThreadingHTTPServer):
    """Counts what comes; `patience` is how many requests it takes on one connection."""

    daemon_threads = True
    connections = 0
    patience = 100

    def process_request(self, request: object, client_address: object) -> None:
        self.connections += 1
        super().process_request(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    taken = 0

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.taken += 1
        assert isinstance(self.server, Server)
        self.close_connection = self.taken >= self.server.patience

    do_POST = do_GET  # noqa: N815 - http.server's name

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    authority = pki.Authority(tmp_path, name="ca")
    pair = authority.save("server", authority.server("server", hosts=["127.0.0.1"]))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.certificate, pair.key)
    with Server(("127.0.0.1", 0), Handler) as made:
        made.socket = tls.wrap_socket(made.socket, server_side=True)
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def connections(server: Server, tmp_path: Path) -> Connections:
    tls = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
    return Connections("127.0.0.1", server.server_address[1], tls=tls)


def ask(connections: Connections, path: str, method: str = "GET") -> Answer:
    return connections.exchange(method, path, headers={}, timeout=5, body=None if method == "GET" else "{}")


def test_one_after_another_by_one_connection(server: Server, connections: Connections) -> None:
    assert [ask(connections, f"/{number}").content for number in range(5)] == [b"/%d" % n for n in range(5)]
    assert server.connections == 1


def test_a_get_is_asked_again_where_the_server_has_closed(server: Server, connections: Connections) -> None:
    server.patience = 1
    assert [ask(connections, f"/{number}").status for number in range(5)] == [200] * 5
    assert server.connections == 5


def test_what_changes_something_is_asked_once_by_a_connection_of_its_own(
    server: Server, connections: Connections
) -> None:
    ask(connections, "/a")
    assert ask(connections, "/b", method="POST").content == b"/b"
    assert server.connections == 2
