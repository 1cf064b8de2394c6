"""What both HTTP servers of the shop have in common."""

import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers with a line of text."""

    # One request for each connection: on one that is kept, a request may cross its end, and an order can't be repeated.
    protocol_version = "HTTP/1.0"
    timeout = 5.0

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
    """One thread for each connection; at the end those that are open are served."""

    request_queue_size = 128
    daemon_threads = False


def serve(handler: type[Handler]) -> None:
    """Serve until told to end."""
    server = Server(("", 8080), handler)
    # The first process of a container ignores signals that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()
    server.server_close()
