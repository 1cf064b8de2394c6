"""Raw request path to route and validated names; pure.

The path is judged as it came over the wire, before anybody decodes or normalises it: nothing the kubelet API serves
needs a percent sign, so every encoding trick (`%2e%2e`, double encoding, `..;/`, `//`, NUL, CR/LF) is refused as a bad
request instead of being cleaned up. Names that leave this module are RFC 1123 names and may be put into another URL.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Final

MAX_PATH: Final = 1024
"""Longest path served, in characters: a verb, two names of 253 at most, two labels of 63 and a UID fit."""

_CLEAN = re.compile(r"(?:/[A-Za-z0-9._-]*)+\Z")
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\Z")
_UID = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9]{0,62}[A-Za-z0-9])?\Z")

_VERBS: Final[Mapping[str, str]] = {
    "GET": "get",
    "HEAD": "get",
    "POST": "create",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}


class BadPathError(ValueError):
    """The path is not one that any honest client sends; answered with 400."""


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """One verb of the kubelet API."""

    name: str
    """The first part of the path (two for metrics and stats), also the label in our metrics."""
    methods: frozenset[str]
    parameters: tuple[tuple[str, ...], ...] = ((),)
    """The shapes of what follows the name: tuples of parameter names."""
    creates: bool = False
    """The caller needs the verb `create` whatever the method: a WebSocket GET runs commands just as a POST does."""
    debugging: bool = False
    """Goes away with `enableDebuggingHandlers: false`, as at a kubelet."""


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A resolved path: route and validated names (empty where the route has none)."""

    route: Route
    namespace: str = ""
    pod: str = ""
    uid: str = ""
    container: str = ""
    check: str = ""
    query: str = ""
    """The query string as it came."""


_GET: Final = frozenset({"GET"})
_STREAM: Final = frozenset({"GET", "POST"})
_CONTAINER: Final = (("namespace", "pod", "container"), ("namespace", "pod", "uid", "container"))

ROUTES: Final[tuple[Route, ...]] = (
    Route("containerLogs", _GET, (("namespace", "pod", "container"),), debugging=True),
    Route("exec", _STREAM, _CONTAINER, creates=True, debugging=True),
    Route("attach", _STREAM, _CONTAINER, creates=True, debugging=True),
    Route("portForward", _STREAM, (("namespace", "pod"), ("namespace", "pod", "uid")), creates=True, debugging=True),
    Route("run", frozenset({"POST"}), _CONTAINER, creates=True, debugging=True),
    Route("pods", _GET),
    Route("runningpods", _GET, debugging=True),
    Route("stats/summary", _GET),
    Route("metrics", _GET),
    Route("metrics/resource", _GET),
    Route("healthz", frozenset({"GET", "HEAD"}), ((), ("check",))),
    Route("configz", _GET),
)
_BY_NAME: Final = {route.name: route for route in ROUTES}
_TRAILING_SLASH: Final = frozenset({"runningpods"})

_FINE: Final[Mapping[str, tuple[str, ...]]] = {
    "pods": ("pods", "proxy"),
    "runningpods": ("pods", "proxy"),
    "healthz": ("healthz", "proxy"),
    "configz": ("configz", "proxy"),
    "stats": ("stats",),
    "metrics": ("metrics",),
    "logs": ("log",),
    "checkpoint": ("checkpoint",),
    "statusz": ("statusz",),
    "flagz": ("configz",),
}


def split(raw: str) -> tuple[str, str]:
    """Path and query of a request target; BadPathError unless it is in origin form and clean."""
    path, _, query = raw.partition("?")
    if len(path) > MAX_PATH:
        raise BadPathError("path is too long")
    if not _CLEAN.match(path):
        raise BadPathError("path has characters that no route has")
    segments = path.split("/")[1:]
    if "" in segments[:-1] or "." in segments or ".." in segments:
        raise BadPathError("path is not normal")
    return path, query


def subresources(path: str) -> tuple[str, ...]:
    """Subresources of nodes/<name> that give a right to a clean `path`, to be tried in this order.

    From GetRequestAttributes in pkg/kubelet/server/auth.go with KubeletFineGrainedAuthz.
    """
    return _FINE.get(path.split("/")[1], ("proxy",))


def verb(method: str, path: str) -> str:
    """RBAC verb of a request; empty for a method that no rule can allow.

    The verb for streams is `create` whatever the method, else a right to *get* nodes/proxy is one to run commands.
    """
    route = _BY_NAME.get(path.split("/")[1])
    if route is not None and route.creates:
        return "create"
    return _VERBS.get(method, "")


def resolve(path: str) -> Target | None:
    """The target of a clean path; None if no route serves it, BadPathError if a name in it can't be one."""
    segments = path.split("/")[1:]
    if segments[-1] == "" and len(segments) > 1:
        if segments[0] not in _TRAILING_SLASH:
            _reject_empty_name(segments)
            return None
        segments.pop()
    for length in (2, 1):
        route = _BY_NAME.get("/".join(segments[:length])) if len(segments) >= length else None
        if route is not None:
            return _match(route, segments[length:])
    return None


def _reject_empty_name(segments: list[str]) -> None:
    """A trailing slash where a name belongs (an empty container, say) is a bad request, elsewhere an unknown path."""
    route = _BY_NAME.get(segments[0])
    if route is not None and any(len(shape) == len(segments) - 1 for shape in route.parameters if shape):
        raise BadPathError("a name in the path is empty")


def _match(route: Route, values: list[str]) -> Target | None:
    for shape in route.parameters:
        if len(shape) == len(values):
            return Target(route, **_names(dict(zip(shape, values, strict=True))))
    return None


def _names(values: Mapping[str, str]) -> dict[str, str]:
    for kind, value in values.items():
        if not _VALID[kind](value):
            raise BadPathError(f"{kind} in the path is not a valid name")
    return dict(values)


def is_label(value: str) -> bool:
    """An RFC 1123 label, as namespaces and containers are named."""
    return _LABEL.match(value) is not None


def is_subdomain(value: str) -> bool:
    """An RFC 1123 subdomain, as pods are named."""
    return len(value) <= 253 and _SUBDOMAIN.match(value) is not None


def is_uid(value: str) -> bool:
    """An object's UID: opaque to us, but made of letters, digits and dashes wherever it comes from."""
    return _UID.match(value) is not None


_VALID: Final = {"namespace": is_label, "pod": is_subdomain, "uid": is_uid, "container": is_label, "check": is_label}
