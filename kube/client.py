"""The API server's verbs, typed at the edge and bytes inside.

``decode`` says what an answer becomes: ``dict`` (the default), a Struct of :mod:`kube.objects`, or any
msgspec Struct with the fields the caller needs. Bodies are dicts, Structs or JSON bytes; bytes pass
unchanged, so what we do not know survives. All errors are :class:`kube.errors.KubeError`.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, MutableSequence, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import prometheus_client
import structlog
from msgspec import Raw

from kube import decoding, discovery, metrics, transport
from kube.config import Credentials
from kube.errors import ApiError, ProtocolError
from kube.limiter import AdaptiveLimiter
from kube.objects import Listing, Metadata
from kube.resources import Resource
from kube.transport import Params, Request, StreamedResponse, Transport
from kube.upgrade import Upgrade, open_upgrade

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=dict[str, Any])
else:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["Client", "PatchType", "StreamedResponse", "Upgrade"]

_log = structlog.get_logger(__name__)

_AS_DICT: Any = dict
_LIST_TIMEOUT = 60.0
_LIST_RESTARTS = 3
# Heartbeats and the checking of callers must not wait behind a burst of pods; API servers keep them apart too.
_UNLIMITED_GROUPS = frozenset({"coordination.k8s.io", "authentication.k8s.io", "authorization.k8s.io"})
# Subresources whose answer is the object itself.
_SAME_KIND = frozenset({None, "status", "ephemeralcontainers", "resize", "approval"})
_SEGMENTS_OF_GROUP = 4

Body = Mapping[str, Any] | msgspec.Struct | bytes


class PatchType(Enum):
    """Content types of patches."""

    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    JSON = "application/json-patch+json"


class Client:
    """One API server, as one identity. Made by :meth:`connect`."""

    def __init__(self, sender: Transport) -> None:
        self._transport = sender
        self.name = sender.name
        self.metrics = sender.metrics

    @classmethod
    def connect(
        cls,
        credentials: Credentials,
        *,
        name: str,
        user_agent: str = "isthmus",
        registry: prometheus_client.CollectorRegistry | None = None,
        limiter: AdaptiveLimiter | None = None,
    ) -> AbstractAsyncContextManager["Client"]:
        """Hold a client for the time of the ``async with``. Nothing is sent before the first request.

        ``limiter`` bounds ordinary requests, all but watches, streams, upgrades, leases, nodes and reviews.
        """
        return _connected(
            credentials,
            name=name,
            user_agent=user_agent,
            metrics=metrics.of(registry),
            limiter=limiter or AdaptiveLimiter(),
        )

    async def get(
        self,
        resource: Resource,
        *,
        name: str,
        namespace: str | None = None,
        subresource: str | None = None,
        decode: type[T] = _AS_DICT,
        timeout: float = 30.0,
    ) -> T:
        """Read one object as it is now (quorum read)."""
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        request = self._request("GET", path, verb="get", resource=resource, timeout=timeout)
        return await self._object(request, resource, subresource=subresource, decode=decode)

    async def find(
        self,
        resource: Resource,
        *,
        name: str,
        namespace: str | None = None,
        decode: type[T] = _AS_DICT,
        timeout: float = 30.0,
    ) -> T | None:
        """`get`, and None if there is no such object."""
        try:
            return await self.get(resource, name=name, namespace=namespace, decode=decode, timeout=timeout)
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str = "",
        field_selector: str = "",
        decode: type[T] = _AS_DICT,
        page: int = 500,
        missing_ok: bool = False,
    ) -> Listing[T]:
        """Read all objects at one revision (quorum read): all of them or an error, never a part.

        Continue tokens that expire between two pages (410) make it begin again. `missing_ok`: an API server that has no
        such resource, as when its definition was removed, and says so by discovery, has none of its objects.
        """
        params = selectors(label_selector, field_selector)
        path = resource.path(namespace=namespace)
        for _ in range(_LIST_RESTARTS):
            items: list[T] = []
            undecodable: list[Metadata] = []
            revision = ""
            try:
                async with contextlib.aclosing(self.pages(resource, path, params=params, page=page)) as pages:
                    async for raws, revision in pages:  # noqa: B007 - the last page's is wanted
                        self._decode_items(raws, resource, decode, items=items, undecodable=undecodable)
            except ApiError as error:
                if error.gone:
                    continue
                if missing_ok and error.not_found and await discovery.lacks(partial(self.raw, "GET"), resource):
                    return Listing(items=[], resource_version="")
                raise
            return Listing(items=items, resource_version=revision, undecodable=undecodable)
        raise ProtocolError(f"GET {path}: the continue token expired {_LIST_RESTARTS} times")

    async def pages(
        self, resource: Resource, path: str, *, params: Params, page: int
    ) -> AsyncGenerator[tuple[Sequence[Raw], str]]:
        """The pages of a list as undecoded items with the list's resourceVersion; used by reflectors.

        Raises ApiError.gone when the list cannot go on; what was given until then is worthless.
        """
        token = ""
        while True:
            query = [*params, ("limit", str(page)), *([("continue", token)] if token else [])]
            request = self._request("GET", path, verb="list", resource=resource, params=query, timeout=_LIST_TIMEOUT)
            found = decoding.page(
                await self._transport.request(request), kind=f"{resource.kind}List", what=str(request)
            )
            yield found.items or (), found.metadata.resource_version
            token = found.metadata.continue_
            if not token:
                return

    async def create(
        self,
        resource: Resource,
        body: Body,
        *,
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
        decode: type[T] = _AS_DICT,
        dry_run: bool = False,
        on_warning: Callable[[str], None] | None = None,
    ) -> T:
        """Create an object (``name`` only for subresources such as token, eviction, binding).

        ``on_warning`` gets what the server warns of, as `unknown field "spec.x"`: that field was dropped.
        """
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        request = self._write(
            "POST", path, verb="create", resource=resource, body=body, params=_dry(dry_run), on_warning=on_warning
        )
        return await self._object(request, resource, subresource=subresource, decode=decode)

    async def replace(
        self,
        resource: Resource,
        body: Body,
        *,
        name: str,
        namespace: str | None = None,
        subresource: str | None = None,
        decode: type[T] = _AS_DICT,
    ) -> T:
        """Put a whole object; 409 if ``metadata.resourceVersion`` in the body is not the current one."""
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        request = self._write("PUT", path, verb="update", resource=resource, body=body)
        return await self._object(request, resource, subresource=subresource, decode=decode)

    async def apply(
        self,
        resource: Resource,
        body: Body,
        *,
        name: str,
        namespace: str | None = None,
        subresource: str | None = None,
        field_manager: str,
        force: bool = True,
        decode: type[T] = _AS_DICT,
    ) -> T:
        """Server-side apply. Creates the object if it is not there; ``metadata.uid`` in the body forbids that."""
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        params = [("fieldManager", field_manager), ("force", "true" if force else "false")]
        # JSON is YAML; this content type is the one that servers of every version know.
        request = self._write(
            "PATCH",
            path,
            verb="apply",
            resource=resource,
            body=body,
            params=params,
            content_type="application/apply-patch+yaml",
        )
        return await self._object(request, resource, subresource=subresource, decode=decode)

    async def patch(
        self,
        resource: Resource,
        body: Body | Sequence[Mapping[str, Any]],
        *,
        name: str,
        namespace: str | None = None,
        subresource: str | None = None,
        kind: PatchType = PatchType.MERGE,
        decode: type[T] = _AS_DICT,
    ) -> T:
        """Patch an object; ``metadata.uid`` or ``.resourceVersion`` in the body are preconditions (409)."""
        path = resource.path(namespace=namespace, name=name, subresource=subresource)
        request = self._write("PATCH", path, verb="patch", resource=resource, body=body, content_type=kind.value)
        return await self._object(request, resource, subresource=subresource, decode=decode)

    async def delete(
        self,
        resource: Resource,
        *,
        name: str,
        namespace: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_period_seconds: int | None = None,
        propagation: str | None = None,
    ) -> None:
        """Delete an object; 409 if it has another UID or resourceVersion, 404 if it is not there."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        preconditions = {k: v for k, v in (("uid", uid), ("resourceVersion", resource_version)) if v is not None}
        if preconditions:
            options["preconditions"] = preconditions
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        if propagation is not None:
            options["propagationPolicy"] = propagation
        path = resource.path(namespace=namespace, name=name)
        await self._transport.request(self._write("DELETE", path, verb="delete", resource=resource, body=options))

    async def raw(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: bytes | None = None,
        timeout: float = 30.0,
    ) -> bytes:
        """Any other request, e.g. ``/version``; the body of the answer as it is. Not held by the limiter."""
        request = Request(
            method, path, verb="raw", resource="", params=params or (), body=body, timeout=timeout, limited=False
        )
        return await self._transport.request(request)

    def stream(
        self, method: str, path: str, *, params: Params, headers: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        """Open an answer without end, such as a followed log. Any status is given, redirects included."""
        return self._transport.stream(method, path, params=params, headers=headers)

    async def upgrade(
        self, method: str, path: str, *, params: Params, headers: Sequence[tuple[str, str]], timeout: float = 30.0
    ) -> Upgrade:
        """Ask for another protocol (SPDY, WebSocket) over a connection of its own, with our credentials.

        The answer may be any status; the caller closes it. ``timeout`` covers connecting and the head.
        """
        return await open_upgrade(self._transport, method, path, params=params, headers=headers, timeout=timeout)

    def open_watch(
        self, resource: Resource, path: str, *, params: Params
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        """Open the stream of a watch; used by :mod:`kube.watch`."""
        return self._transport.stream(
            "GET",
            path,
            params=params,
            headers={"Accept": "application/json"},
            verb="watch",
            resource=resource.plural,
        )

    def decode_item(self, raw: Raw | bytes, resource: Resource, decode: type[T]) -> T | None:
        """Decode one object of a list or watch; one that cannot be decoded is counted, logged and None (fault F37)."""
        try:
            return decoding.decoder(decode).decode(raw)
        except decoding.ERRORS as error:
            self.metrics.undecodable.labels(self.name, resource.plural).inc()
            found = decoding.salvage(raw)
            key = f"{found.namespace}/{found.name}" if found else "?"
            _log.error(
                "undecodable_object",
                client=self.name,
                resource=resource.plural,
                object=key,
                size=len(bytes(raw)),
                error=type(error).__name__,
            )
            return None

    def _decode_items(
        self,
        raws: Sequence[Raw],
        resource: Resource,
        decode: type[T],
        *,
        items: MutableSequence[T],
        undecodable: MutableSequence[Metadata],
    ) -> None:
        for raw in raws:
            item = self.decode_item(raw, resource, decode)
            if item is not None:
                items.append(item)
            elif (identity := decoding.salvage(raw)) is not None:
                undecodable.append(identity)
            else:
                raise ProtocolError(f"list of {resource.plural}: an item without readable metadata")

    def _request(
        self, method: str, path: str, *, verb: str, resource: Resource, params: Params = (), timeout: float = 30.0
    ) -> Request:
        return Request(
            method,
            path,
            verb=verb,
            resource=resource.plural,
            params=params,
            timeout=timeout,
            limited=_limited(resource),
        )

    def _write(
        self,
        method: str,
        path: str,
        *,
        verb: str,
        resource: Resource,
        body: object,
        params: Params = (),
        content_type: str = "application/json",
        on_warning: Callable[[str], None] | None = None,
    ) -> Request:
        return Request(
            method,
            path,
            verb=verb,
            resource=resource.plural,
            params=params,
            body=body if isinstance(body, bytes) else msgspec.json.encode(body),
            content_type=content_type,
            limited=_limited(resource),
            on_warning=on_warning,
        )

    async def _object(self, request: Request, resource: Resource, *, subresource: str | None, decode: type[T]) -> T:
        body = await self._transport.request(request)
        kind = resource.kind if subresource in _SAME_KIND else None
        return decoding.whole(body, decode=decode, kind=kind, what=str(request))


@asynccontextmanager
async def _connected(
    credentials: Credentials, *, name: str, user_agent: str, metrics: metrics.Metrics, limiter: AdaptiveLimiter
) -> AsyncIterator[Client]:
    async with transport.connect(
        credentials, name=name, user_agent=user_agent, limiter=limiter, metrics=metrics
    ) as sender:
        yield Client(sender)


def _limited(resource: Resource) -> bool:
    """Heartbeats (leases, nodes) and the questions on which others' requests wait are not held by a burst of pods."""
    return resource.group not in _UNLIMITED_GROUPS and resource.plural != "nodes"


def selectors(label_selector: str, field_selector: str) -> list[tuple[str, str]]:
    """The query parameters of selectors, those that are set."""
    pairs = (("labelSelector", label_selector), ("fieldSelector", field_selector))
    return [(name, value) for name, value in pairs if value]


def _dry(dry_run: bool) -> list[tuple[str, str]]:
    return [("dryRun", "All")] if dry_run else []
