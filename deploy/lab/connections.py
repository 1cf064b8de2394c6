"""HTTPS connections that are kept from one GET to the next: whoever looks at a server ten times a second would have
both ends shake hands all the time, which costs more than all the answers.
"""

from __future__ import annotations

import http.client
import ssl
import time
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

_MOST = 8
_KEPT_SECONDS = 5.0
"""Not for longer: what lies idle may have been cut off, and its silence would be taken for the server's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    content: bytes


class Connections:
    """To one server as one identity. Threads may share it."""

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext) -> None:
        self.host, self.port, self.tls = host, port, tls
        self._idle: deque[tuple[float, http.client.HTTPSConnection]] = deque()
        weakref.finalize(self, _close, self._idle)

    def new(self, *, timeout: float) -> http.client.HTTPSConnection:
        """A connection of the caller's own."""
        return http.client.HTTPSConnection(self.host, self.port, context=self.tls, timeout=timeout)

    def exchange(
        self, method: str, path: str, *, body: str | None = None, headers: Mapping[str, str], timeout: float
    ) -> Answer:
        """Ask and read the whole answer. Raises OSError and HTTPException if there is none.

        Only a GET takes a connection that was used before: it can be asked again if the server has closed that.
        """
        if method == "GET" and (kept := self._take()) is not None:
            try:
                kept.timeout = timeout
                kept.sock.settimeout(timeout)
                return self._on(kept, method, path, body=body, headers=headers)
            except (ConnectionError, ssl.SSLError, http.client.BadStatusLine):
                pass  # closed by the server since
        return self._on(self.new(timeout=timeout), method, path, body=body, headers=headers)

    def _on(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        *,
        body: str | None,
        headers: Mapping[str, str],
    ) -> Answer:
        try:
            connection.request(method, path, body=body, headers=dict(headers))
            response = connection.getresponse()
            answer = Answer(response.status, response.read())
        except BaseException:
            connection.close()
            raise
        # http.client closes what the server does not want to go on with.
        if connection.sock is None or len(self._idle) >= _MOST:
            connection.close()
        else:
            self._idle.append((time.monotonic(), connection))
        return answer

    def _take(self) -> http.client.HTTPSConnection | None:
        while self._idle:
            try:
                since, connection = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            if time.monotonic() - since < _KEPT_SECONDS:
                return connection
            connection.close()
        return None


def _close(idle: deque[tuple[float, http.client.HTTPSConnection]]) -> None:
    while idle:
        idle.pop()[1].close()
