"""What both HTTP servers of the shop have in common."""

import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers with a line of text."""

    protocol_version = "HTTP/1.1"

    def body(self) -> bytes:
        """What the client sent."""
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, status: int, text: str) -> None:
        """Send the answer."""
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing: the ingress controller logs."""


class Server(ThreadingHTTPServer):
    """One thread for each connection."""

    request_queue_size = 128


def serve(handler: type[Handler]) -> None:
    """Serve until told to end."""
    # The first process of a container ignores signals that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    Server(("", 8080), handler).serve_forever()
