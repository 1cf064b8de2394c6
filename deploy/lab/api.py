"""A small blocking client of a lab cluster's API server, for setting the cluster up and for looking at it.

One connection per call, so threads may share it. It is not the project's client library on purpose: the lab must not
depend on what it tests.
"""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

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
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._tls = ssl.create_default_context(cafile=ca)
        if pair:
            self._tls.load_cert_chain(pair.certificate, pair.key)

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
        with self._sent(method, path, body=body, content_type=content_type, timeout=timeout) as response:
            decoded: Json = json.loads(response.read() or b"{}")
            return decoded

    def text(self, path: str, *, timeout: float = 10.0) -> str:
        """GET of something that is not JSON, such as /readyz or /metrics."""
        with self._sent("GET", path, timeout=timeout) as response:
            return response.read().decode()

    def watch(self, path: str, *, timeout: float) -> Iterator[Json]:
        """Events of a watch, until the server ends it or stays silent for `timeout` seconds (OSError)."""
        with self._sent("GET", path, timeout=timeout) as response:
            while line := response.readline():
                event: Json = json.loads(line)
                yield event

    def streaming(
        self, path: str, *, headers: Mapping[str, str] | None = None, timeout: float = 30.0
    ) -> http.client.HTTPSConnection:
        """GET whose answer (200, or 101 to an upgrade) has begun; the connection is the caller's to close."""
        connection = http.client.HTTPSConnection(self._host, self._port, context=self._tls, timeout=timeout)
        try:
            connection.request("GET", path, headers=dict(headers or {}))
            response = connection.getresponse()
            if response.status >= 300:
                raise StatusError("GET", path, response.status, response.read().decode(errors="replace"))
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

    @contextmanager
    def _sent(
        self, method: str, path: str, *, body: Json | None = None, content_type: str = "", timeout: float
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPSConnection(self._host, self._port, context=self._tls, timeout=timeout)
        try:
            headers = {"Content-Type": content_type} if body is not None else {}
            connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
            response = connection.getresponse()
            if response.status >= 400:
                raise StatusError(method, path, response.status, response.read().decode(errors="replace"))
            yield response
        finally:
            connection.close()


def object_path(manifest: Mapping[str, Any]) -> str:
    """The path of an object of the kinds that the lab makes."""
    version: str = manifest["apiVersion"]
    metadata = manifest["metadata"]
    base = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = metadata.get("namespace")
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{base}{inside}/{_PLURALS[manifest['kind']]}/{metadata['name']}"
