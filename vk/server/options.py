"""Query strings of the kubelet API to checked options, and options to the provider's query; pure.

Wording and codes are the kubelet's, for API servers and people match on them. Sources: getContainerLogs in
pkg/kubelet/server/server.go, ValidatePodLogOptions in pkg/apis/core/validation, NewOptions in
k8s.io/kubelet/pkg/cri/streaming/remotecommand, NewV4Options in .../portforward, and the conversions of
k8s.io/apimachinery/pkg/runtime for booleans and integers.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import urllib.parse
from typing import Final

from vk.server.errors import RequestError

Query = dict[str, list[str]]
Params = list[tuple[str, str]]

MAX_FIELDS: Final = 65_536
"""Most fields of a query: each argument of a command is one."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,30}\Z", re.ASCII)
_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,]\d{1,30})?(?:Z|[+-](\d\d):(\d\d))\Z", re.ASCII)
_UNDECODABLE: Final = RequestError(400, '{"message": "Unable to decode query."}')
_INVALID: Final = RequestError(422, '{"message": "Invalid request."}')
_STREAMS: Final = frozenset({"All", "Stdout", "Stderr"})


def parse_query(text: str) -> Query:
    """The fields of a query string, each with all its values; 400 if it is not UTF-8 or has too many fields."""
    try:
        pairs = urllib.parse.parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise RequestError(400, "unable to parse the query") from error
    query: Query = {}
    for key, value in pairs:
        query.setdefault(key, []).append(value)
    return query


@dataclasses.dataclass(frozen=True, slots=True)
class LogOptions:
    """v1.PodLogOptions without the container's name."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since_seconds: int | None = None
    since_time: str | None = None
    tail_lines: int | None = None
    limit_bytes: int | None = None
    stream: str | None = None

    @classmethod
    def parse(cls, query: Query) -> LogOptions:
        """Read and validate; RequestError 400 for what can't be decoded, 422 for what makes no sense."""
        tail = query.get("tail", [""])[0]
        lines = query.get("tailLines")
        if tail:
            lines = None if tail == "all" else [tail]
        options = cls(
            follow=_boolean(query, "follow"),
            previous=_boolean(query, "previous"),
            timestamps=_boolean(query, "timestamps"),
            since_seconds=_integer(query.get("sinceSeconds")),
            since_time=_time(query.get("sinceTime")),
            tail_lines=_integer(lines),
            limit_bytes=_integer(query.get("limitBytes")),
            stream=query["stream"][0] if "stream" in query else None,
        )
        options._validate()
        return options

    def _validate(self) -> None:
        if self.tail_lines is not None and self.tail_lines < 0:
            raise _INVALID
        if self.limit_bytes is not None and self.limit_bytes < 1:
            raise _INVALID
        if self.since_seconds is not None and (self.since_time is not None or self.since_seconds < 1):
            raise _INVALID
        if self.stream is not None and self.stream not in _STREAMS:
            raise _INVALID
        if self.stream in ("Stdout", "Stderr") and self.tail_lines is not None:
            raise _INVALID

    def params(self, *, container: str) -> Params:
        """The query for pods/log of an API server. `stream=All` is left out: servers without the feature refuse it."""
        params = [("container", container)]
        params += [(name, "true") for name in ("follow", "previous", "timestamps") if getattr(self, name)]
        numbers = {"sinceSeconds": self.since_seconds, "tailLines": self.tail_lines, "limitBytes": self.limit_bytes}
        params += [(name, str(value)) for name, value in numbers.items() if value is not None]
        if self.since_time:
            params.append(("sinceTime", self.since_time))
        if self.stream not in (None, "All"):
            params.append(("stream", str(self.stream)))
        return params


@dataclasses.dataclass(frozen=True, slots=True)
class ExecOptions:
    """Which streams an exec or attach has, and the command (empty for attach)."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool
    command: tuple[str, ...] = ()

    @classmethod
    def parse(cls, query: Query, *, command: bool) -> ExecOptions:
        """Read and validate; RequestError 400 if no stream is asked for. With a TTY, stderr is dropped silently."""
        flags = {name: query.get(name, [""])[0] == "1" for name in ("input", "output", "error", "tty")}
        stderr = flags["error"] and not flags["tty"]
        if not (flags["input"] or flags["output"] or stderr):
            raise RequestError(400, "you must specify at least 1 of stdin, stdout, stderr")
        return cls(
            stdin=flags["input"],
            stdout=flags["output"],
            stderr=stderr,
            tty=flags["tty"],
            command=tuple(query.get("command", ())) if command else (),
        )

    def params(self, *, container: str) -> Params:
        """The query for pods/exec or pods/attach of an API server."""
        params = [("container", container)]
        params += [("command", argument) for argument in self.command]
        params += [(name, "true") for name in ("stdin", "stdout", "stderr", "tty") if getattr(self, name)]
        return params


def parse_ports(query: Query, *, websocket: bool) -> Params:
    """The query for pods/portforward: with SPDY none, ports come in the stream; with WebSocket `ports` is required."""
    if not websocket:
        return []
    texts = query.get("port", [])
    if not texts:
        raise RequestError(400, 'query parameter "port" is required')
    return [("ports", str(port)) for text in texts for port in _ports(text)]


def _ports(text: str) -> list[int]:
    if not text:
        raise RequestError(400, 'query parameter "port" cannot be empty')
    ports = []
    for part in text.split(","):
        if not re.fullmatch(r"[0-9]{1,20}", part, re.ASCII) or int(part) > 65_535:
            raise RequestError(400, f"unable to parse {_quoted(text)} as a port: invalid syntax or value out of range")
        if int(part) < 1:
            raise RequestError(400, f"port {_quoted(text)} must be > 0")
        ports.append(int(part))
    return ports


def _quoted(text: str) -> str:
    """Text of the caller inside an error message: short, printable, quoted."""
    return '"' + "".join(c if c.isascii() and c.isprintable() and c != '"' else "?" for c in text[:64]) + '"'


def _boolean(query: Query, name: str) -> bool:
    """Absent, `0` and `false` are false, everything else (also the empty string) is true."""
    return name in query and query[name][0] != "0" and query[name][0].lower() != "false"


def _integer(values: list[str] | None) -> int | None:
    if not values:
        return None
    if not _INTEGER.match(values[0]):
        raise _UNDECODABLE
    number = int(values[0])
    if not -(2**63) <= number < 2**63:
        raise _UNDECODABLE
    return number


def _time(values: list[str] | None) -> str | None:
    """A checked RFC 3339 time as it came, "" for the zero time, None if absent."""
    if not values:
        return None
    text = values[0]
    if text in ("", "null"):
        return ""
    match = _RFC3339.match(text)
    if match is None:
        raise _UNDECODABLE
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    try:
        datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC)
    except ValueError:
        raise _UNDECODABLE from None
    if int(match[7] or 0) > 23 or int(match[8] or 0) > 59:
        raise _UNDECODABLE
    return text.replace(",", ".")
