"""A small blocking client of a lab cluster's API server, for setting the cluster up and for looking at it.

Threads may share it. It is not the project's client library on purpose: the lab must not
depend on what it tests.
"""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from deploy.lab.connections import Connections
from deploy.lab.errors import LabError
from deploy.lab.pki import PairFiles

Json = dict[str, Any]
_SHOWN = 4000
"""Characters of a refusal that an error shows."""
_PLURALS = {
    "APIService": "apiservices",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "ConfigMap": "configmaps",
    "Deployment": "deployments",
    "EndpointSlice": "endpointslices",
    "Endpoints": "endpoints",
    "IngressClass": "ingressclasses",
    "Namespace": "namespaces",
    "Node": "nodes",
    "Pod": "pods",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "Secret": "secrets",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "StorageClass": "storageclasses",
}


class StatusError(LabError):
    """The API server refused."""

    def __init__(self, method: str, path: str, status: int, body: str) -> None:
        super().__init__(f"{method} {path}: {status} {body[:_SHOWN]}")
        self.status = status


class Api:
    """Requests as one identity."""

    def __init__(self, url: str, *, ca: str, pair: PairFiles | None) -> None:
        parts = urllib.parse.urlsplit(url)
        tls = ssl.create_default_context(cafile=ca)
        if pair:
            tls.load_cert_chain(pair.certificate, pair.key)
        self._connections = Connections(parts.hostname or "", parts.port or 443, tls=tls)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Json | None = None,
        content_type: str = "application/json",
        timeout: float = 30.0,
    ) -> Json:
        """One request; the decoded answer. StatusError for a status of 400 and more, OSError without an answer."""
        headers = {"Content-Type": content_type} if body is not None else {}
        sent = None if body is None else json.dumps(body)
        decoded: Json = json.loads(self._answer(method, path, body=sent, headers=headers, timeout=timeout) or b"{}")
        return decoded

    def text(self, path: str, *, timeout: float = 10.0) -> str:
        """GET of something that is not JSON, such as /readyz or /metrics."""
        return self._answer("GET", path, timeout=timeout).decode()

    def watch(self, path: str, *, timeout: float) -> Iterator[Json]:
        """Events of a watch, until the server ends it or stays silent for `timeout` seconds (OSError)."""
        connection = self._connections.new(timeout=timeout)
        try:
            response = _begun(connection, path, headers={}, most=399)
            while line := response.readline():
                event: Json = json.loads(line)
                yield event
        finally:
            connection.close()

    def streaming(
        self, path: str, *, headers: Mapping[str, str] | None = None, timeout: float = 30.0
    ) -> http.client.HTTPSConnection:
        """GET whose answer (200, or 101 to an upgrade) has begun; the connection is the caller's to close."""
        connection = self._connections.new(timeout=timeout)
        try:
            _begun(connection, path, headers=headers or {}, most=299)
        except BaseException:
            connection.close()
            raise
        return connection

    def ready(self) -> bool:
        """Whether the API server says it is ready."""
        try:
            return self.text("/readyz", timeout=5) == "ok"
        except (OSError, http.client.HTTPException, StatusError):
            return False

    def exists(self, path: str) -> bool:
        """Whether GET finds an object."""
        try:
            self.request("GET", path)
        except StatusError as error:
            if error.status == 404:
                return False
            raise
        return True

    def apply(self, manifest: Json) -> Json:
        """Server-side apply as the field manager `lab`."""
        query = "?fieldManager=lab&force=true"
        return self.request(
            "PATCH", object_path(manifest) + query, body=manifest, content_type="application/apply-patch+yaml"
        )

    def _answer(
        self,
        method: str,
        path: str,
        *,
        body: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float,
    ) -> bytes:
        answer = self._connections.exchange(method, path, body=body, headers=headers or {}, timeout=timeout)
        if answer.status >= 400:
            raise StatusError(method, path, answer.status, answer.content.decode(errors="replace"))
        return answer.content


def _begun(
    connection: http.client.HTTPSConnection, path: str, *, headers: Mapping[str, str], most: int
) -> http.client.HTTPResponse:
    """The answer to a GET, not read yet. StatusError for a status above `most`."""
    connection.request("GET", path, headers=dict(headers))
    response = connection.getresponse()
    if response.status > most:
        raise StatusError("GET", path, response.status, response.read().decode(errors="replace"))
    return response


def object_path(manifest: Mapping[str, Any]) -> str:
    """The path of an object of the kinds that the lab makes."""
    version: str = manifest["apiVersion"]
    metadata = manifest["metadata"]
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = metadata.get("namespace")
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{base}{inside}/{_PLURALS[manifest['kind']]}/{metadata['name']}"
