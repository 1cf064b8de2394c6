"""What the proxy does wrong: a rule says which requests, how often, and what happens to them.

Actions on whole requests and answers are taken when the request comes. Actions on watch events are taken event by
event, so a rule added later works on watches that are already open.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]
_WRITES = {"POST": "create", "PUT": "update", "PATCH": "patch"}


@dataclass(frozen=True, slots=True)
class Request:
    """A request as rules and records see it."""

    method: str
    path: str
    query: str

    @property
    def watch(self) -> bool:
        """Whether it is a watch."""
        return re.search(r"(?:^|&)watch=(?:1|true)(?:&|$)", self.query) is not None

    @property
    def verb(self) -> str:
        """The Kubernetes verb: get, list, watch, create, update, patch, delete, deletecollection."""
        named = _names_an_object(self.path)
        if self.method in _WRITES:
            return _WRITES[self.method]
        if self.method == "DELETE":
            return "delete" if named else "deletecollection"
        return "watch" if self.watch else "get" if named else "list"


def _names_an_object(path: str) -> bool:
    """Whether the path goes on after the resource: /api/v1/pods does not, /api/v1/namespaces/x does."""
    parts = path.strip("/").split("/")[2 if path.startswith("/api/") else 3 :]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    return len(parts) > 1


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer this, without asking the API server."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/json"),)


@dataclass(frozen=True, slots=True)
class Refuse:
    """Close the connection; the API server never hears of the request."""


@dataclass(frozen=True, slots=True)
class Swallow:
    """Let the API server carry the request out, then close the connection instead of passing the answer on."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Pass the request on after this many seconds; infinity is never."""

    seconds: float


@dataclass(frozen=True, slots=True)
class AlterBody:
    """Pass the API server's answer on with another body, framed as if it were the whole."""

    alter: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class BreakBody:
    """Pass this share of the answer's body on, then close the connection."""

    share: float = 0.5


@dataclass(frozen=True, slots=True)
class AlterEvents:
    """Replace every event of a watch by the events returned (none drops it, several add)."""

    alter: Callable[[Event], list[Event]]


Action = Answer | Refuse | Swallow | Delay | AlterBody | BreakBody | AlterEvents


@dataclass(slots=True, eq=False)
class Rule:
    """Do `action` to requests that match all that is given; `hits` counts them."""

    action: Action
    path: str = ""
    """Regular expression, searched in the path."""
    verb: str = ""
    """Kubernetes verb, or several with | between them; empty for all."""
    query: str = ""
    """Regular expression, searched in the query."""
    times: int | None = None
    """How often; None for always. For AlterEvents, how many events are given to it."""
    skip: int = 0
    """How many that match are let pass first."""
    on_hit: Callable[[], None] | None = None
    """Called in the proxy's thread before the action is taken, such as to kill whoever asks."""
    hits: int = field(default=0, init=False)

    def take(self, request: Request) -> bool:
        """Whether the rule applies to the request now; counts it if so."""
        if self.times is not None and self.hits >= self.times:
            return False
        if self.verb and request.verb not in self.verb.split("|"):
            return False
        if not re.search(self.path, request.path) or not re.search(self.query, request.query):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.hits += 1
        if self.on_hit is not None:
            self.on_hit()
        return True


def status(code: int, reason: str, message: str, *, retry_after: int | None = None) -> Answer:
    """A proper Status object as answer."""
    details = {} if retry_after is None else {"details": {"retryAfterSeconds": retry_after}}
    document = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason}
    headers = [("Content-Type", "application/json")]
    if retry_after is not None:
        headers.append(("Retry-After", str(retry_after)))
    return Answer(code, json.dumps({**document, "message": message, **details}).encode(), tuple(headers))


def gone() -> Answer:
    """410: the resource version is too old."""
    return status(410, "Expired", "The resourceVersion for the provided watch is too old.")


def too_many_requests(retry_after: int = 1) -> Answer:
    """429 with Retry-After."""
    return status(429, "TooManyRequests", "The server has received too many requests.", retry_after=retry_after)


def server_error(code: int = 500) -> Answer:
    """500, or another."""
    return status(code, "InternalError", "An error on the server has prevented the request from succeeding.")


def html(code: int = 200) -> Answer:
    """A web page, as from a captive portal or a load balancer."""
    return Answer(code, b"<html><body><h1>Bad Gateway</h1></body></html>", (("Content-Type", "text/html"),))


def truncated() -> AlterBody:
    """The first half of the JSON, in a message that is complete as HTTP."""
    return AlterBody(lambda content: content[: len(content) // 2])


def empty_list() -> AlterBody:
    """A list without its items, otherwise as the API server gave it."""

    def alter(content: bytes) -> bytes:
        document = json.loads(content)
        document["items"] = []
        document["metadata"].pop("continue", None)
        document["metadata"].pop("remainingItemCount", None)
        return json.dumps(document).encode()

    return AlterBody(alter)


def dropped_events(of: Callable[[Event], bool] = lambda _: True) -> AlterEvents:
    """Watch events that never come; bookmarks still do."""
    return AlterEvents(lambda event: [] if event["type"] not in ("BOOKMARK", "ERROR") and of(event) else [event])


def duplicated_events() -> AlterEvents:
    """Every watch event twice."""
    return AlterEvents(lambda event: [event, event])


def replayed_events() -> AlterEvents:
    """After every event, all the earlier ones again, oldest first."""
    seen: list[Event] = []

    def alter(event: Event) -> list[Event]:
        earlier = list(seen)
        seen.append(event)
        return [event, *earlier]

    return AlterEvents(alter)


def error_event(code: int = 410, reason: str = "Expired") -> Event:
    """The event by which a watch reports that it cannot go on."""
    message = "too old resource version" if code == 410 else "the watch failed"
    kind = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {"type": "ERROR", "object": {**kind, "code": code, "reason": reason, "message": message}}
