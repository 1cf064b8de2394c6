"""Objects as kubectl reads, creates and deletes them, without kubectl: a process each time costs thirty times as much.

Kinds are understood by all names that kubectl takes (`pod`, `pods`, `po`, `pods.metrics.k8s.io`), by discovery.
"""

from __future__ import annotations

import base64
import functools
import http.client
import json
import ssl
import tempfile
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml

from deploy.lab.connections import Connections

Json = dict[str, Any]
_DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_FLAGS = {"-l": "labelSelector", "--selector": "labelSelector", "--field-selector": "fieldSelector"}


class RefusedError(Exception):
    """The API server said no; the text is as kubectl shows it."""

    def __init__(self, status: int, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason

    @property
    def is_not_found(self) -> bool:
        """Whether there is no such object, its kind being known."""
        return self.status == HTTPStatus.NOT_FOUND and self.reason == "NotFound"


class NotUnderstoodError(Exception):
    """These arguments or this kubeconfig are kubectl's."""


@dataclass(frozen=True)
class _Kind:
    base: str
    plural: str
    namespaced: bool

    def path(self, namespace: str, name: str = "") -> str:
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{self.base}{inside}/{self.plural}" + (f"/{name}" if name else "")


@dataclass
class Reader:
    """One API server as one identity. Threads may share it."""

    connections: Connections
    token: str
    kinds: dict[str, _Kind] = field(default_factory=dict)
    """By all words for them, and by `apiVersion kind`."""

    def get(self, kind: str, name: str, *, namespace: str) -> Json:
        """An object. Raises `RefusedError`."""
        return self._ask(self._kind(kind).path(namespace, name))

    def list(self, kind: str, arguments: tuple[str, ...], *, namespace: str) -> list[Json]:
        """Objects of a kind, by flags of `kubectl get`. Raises `RefusedError`, `NotUnderstoodError`."""
        query, everywhere = _query(arguments)
        found = self._kind(kind)
        listing = self._ask(found.path("" if everywhere else namespace) + query)
        version, items = listing["apiVersion"], listing["items"]
        single = listing["kind"].removesuffix("List")
        return [{"apiVersion": version, "kind": single, **item} for item in items]

    def create(self, manifest: Mapping[str, Any], *, namespace: str) -> Json:
        """Create an object, in its own namespace if it names one. Raises `RefusedError`, `NotUnderstoodError`."""
        key = f"{manifest['apiVersion']} {manifest['kind']}"
        if key not in self.kinds:
            self.kinds = self._discover()
        if key not in self.kinds:
            raise NotUnderstoodError(key)
        path = self.kinds[key].path(manifest.get("metadata", {}).get("namespace", namespace))
        return self._ask(f"{path}?fieldValidation=Strict&fieldManager=kubectl-create", body=manifest)

    def delete(self, kind: str, name: str, *, namespace: str, options: Mapping[str, Any]) -> str:
        """Have an object deleted; its UID. Raises `RefusedError`."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background", **options}
        answer = self._ask(self._kind(kind).path(namespace, name), method="DELETE", body=body)
        gone = answer.get("details") or answer.get("metadata") or {}
        return str(gone.get("uid", ""))

    def _kind(self, kind: str) -> _Kind:
        if kind.lower() not in self.kinds:
            self.kinds = self._discover()
        try:
            return self.kinds[kind.lower()]
        except KeyError:
            raise RefusedError(404, f'error: the server doesn\'t have a resource type "{kind}"') from None

    def _discover(self) -> dict[str, _Kind]:
        found: dict[str, _Kind] = {}
        for root in ("/api", "/apis"):
            for group in self._ask(root, accept=_DISCOVERY)["items"]:
                name, version = group["metadata"].get("name", ""), group["versions"][0]
                base = f"/apis/{name}/{version['version']}" if name else f"/api/{version['version']}"
                for resource in version.get("resources", []):
                    kind = _Kind(base, resource["resource"], resource["scope"] == "Namespaced")
                    known = (kind.plural, resource.get("singularResource", ""), *resource.get("shortNames", ()))
                    answers = resource.get("responseKind", {}).get("kind", "")
                    found.setdefault(f"{base.removeprefix('/apis/').removeprefix('/api/')} {answers}", kind)
                    for word in known:
                        found.setdefault(word, kind)
                        found.setdefault(f"{word}.{name}", kind)
        return found

    def _ask(
        self,
        path: str,
        *,
        method: str = "POST",
        accept: str = "application/json",
        body: Mapping[str, Any] | None = None,
    ) -> Json:
        headers = {"Accept": accept, **({"Authorization": f"Bearer {self.token}"} if self.token else {})}
        try:
            if body is None:
                answer = self.connections.exchange("GET", path, headers=headers, timeout=30)
            else:
                headers["Content-Type"] = "application/json"
                sent = json.dumps(body)
                answer = self.connections.exchange(method, path, headers=headers, body=sent, timeout=30)
            if answer.status >= 400:
                raise _refusal(answer.status, answer.content)
            decoded: Json = json.loads(answer.content)
            return decoded
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            raise RefusedError(0, f"Unable to connect to the server: {error}") from error


def reader(kubeconfig: Path) -> Reader:
    """What a kubeconfig leads to, read again when it changes. Raises `NotUnderstoodError`."""
    return _reader(kubeconfig, kubeconfig.stat().st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _reader(kubeconfig: Path, _changed: int) -> Reader:
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    if len(config["clusters"]) > 1 or len(config["users"]) > 1 or "certificate-authority-data" not in cluster:
        raise NotUnderstoodError(kubeconfig)
    tls = ssl.create_default_context(cadata=_text(cluster["certificate-authority-data"]))
    if "client-certificate-data" in user:
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            pair = _text(user["client-certificate-data"]) + "\n" + _text(user["client-key-data"])
            Path(file.name).write_text(pair)
            tls.load_cert_chain(file.name)
    elif "token" not in user:
        raise NotUnderstoodError(kubeconfig)
    address = urllib.parse.urlsplit(cluster["server"])
    return Reader(Connections(address.hostname or "", address.port or 443, tls=tls), user.get("token", ""))


def _text(data: str) -> str:
    return base64.b64decode(data).decode()


@dataclass(frozen=True)
class Deletion:
    """What `kubectl delete KIND NAME...` was asked for."""

    kind: str
    names: tuple[str, ...]
    options: Mapping[str, Any]
    namespace: str = ""
    wait: bool = True
    ignore_not_found: bool = False


def deletion(arguments: Sequence[str]) -> Deletion:
    """Read the arguments of `kubectl delete`. Raises `NotUnderstoodError`."""
    words = [word for word in arguments if not word.startswith("-")]
    flags = dict(word.removeprefix("--").partition("=")[::2] for word in arguments if word.startswith("-"))
    unknown = flags.keys() - {"wait", "ignore-not-found", "grace-period", "force", "namespace"}
    if unknown or len(words) < 2 or any(separator in word for word in words for separator in "/,"):
        raise NotUnderstoodError(arguments)
    forced = "force" in flags
    # Without --force kubectl makes one second of none.
    grace = max(int(flags.get("grace-period", 0 if forced else -1)), -1)
    seconds = {} if grace < 0 else {"gracePeriodSeconds": grace if forced else max(grace, 1)}
    waits, ignores = flags.get("wait") != "false", "ignore-not-found" in flags
    return Deletion(words[0], tuple(words[1:]), seconds, flags.get("namespace", ""), waits, ignores)


def _query(arguments: tuple[str, ...]) -> tuple[str, bool]:
    query: dict[str, str] = {}
    everywhere = False
    words = iter(arguments)
    for word in words:
        flag, joined, value = word.partition("=")
        if word in ("-A", "--all-namespaces"):
            everywhere = True
        elif word in _FLAGS:
            query[_FLAGS[word]] = next(words)
        elif joined and flag.startswith("--") and flag in _FLAGS:
            query[_FLAGS[flag]] = value
        else:
            raise NotUnderstoodError(arguments)
    return ("?" + urllib.parse.urlencode(query) if query else ""), everywhere


def _refusal(status: int, body: bytes) -> RefusedError:
    try:
        said = json.loads(body)
        reason = said.get("reason", "")
        return RefusedError(status, f"Error from server ({reason}): {said.get('message', '')}", reason)
    except json.JSONDecodeError:
        return RefusedError(status, f"Error from server: {status} {body[:200]!r}")
