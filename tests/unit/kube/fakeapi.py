"""A small API server for one kind of object: lists in pages, watches, streaming lists, and faults on demand.

It is real HTTP on loopback. ``script`` may answer a request before the server does; ``None`` lets it through.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from kube.config import Credentials
from kube.kubeconfig import Material

Script = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
PATH = "/api/v1/namespaces/ns/configmaps"


def status(code: int, reason: str = "", message: str = "no", **extra: Any) -> bytes:
    return json.dumps(
        {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}
        | extra
    ).encode()


def failure(code: int, reason: str = "", message: str = "no", *, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=code, body=status(code, reason, message), headers=headers, content_type="application/json"
    )


def event(kind: str, item: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


class FakeApi:
    """ConfigMaps of namespace ``ns``. ``url`` is where it listens."""

    def __init__(self) -> None:
        self.url = ""
        self.revision = 100
        self.oldest = 0
        self.streaming = True
        self.objects: dict[str, dict[str, Any]] = {}
        self.history: list[tuple[int, bytes]] = []
        self.requests: list[web.Request] = []
        self.counts: Counter[str] = Counter()
        self.script: Script | None = None
        self._wake = asyncio.Event()
        self._kick = 0

    def put(self, name: str, *, uid: str = "", announce: bool = True, **data: str) -> dict[str, Any]:
        """Create or change an object; ``announce`` False loses the watch event."""
        self.revision += 1
        old = self.objects.get(name)
        kind = "ADDED" if old is None else "MODIFIED"
        metadata = {
            "name": name,
            "namespace": "ns",
            "uid": uid or (old["metadata"]["uid"] if old else f"uid-{name}"),
            "resourceVersion": str(self.revision),
        }
        self.objects[name] = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": data}
        if announce:
            self._say(event(kind, self.objects[name]))
        return self.objects[name]

    def delete(self, name: str, *, announce: bool = True) -> None:
        self.revision += 1
        item = self.objects.pop(name)
        item = item | {"metadata": item["metadata"] | {"resourceVersion": str(self.revision)}}
        if announce:
            self._say(event("DELETED", item))

    def bookmark(self) -> None:
        self.revision += 1
        self._say(self._bookmark())

    def say(self, line: bytes) -> None:
        """Put any bytes on all watches."""
        self.revision += 1
        self._say(line)

    def close_watches(self) -> None:
        """End all watches as a server does whose time is over."""
        self._kick += 1
        self._stir()

    def _say(self, line: bytes) -> None:
        self.history.append((self.revision, line))
        self._stir()

    def _stir(self) -> None:
        self._wake.set()
        self._wake = asyncio.Event()

    def _bookmark(self, *, end: bool = False) -> bytes:
        metadata: dict[str, Any] = {"resourceVersion": str(self.revision)}
        if end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        return event("BOOKMARK", {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata})

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        kind = "watch" if "watch" in request.query else "list" if request.path == PATH else "other"
        self.counts[kind] += 1
        if self.script is not None and (answer := await self.script(request)) is not None:
            return answer
        if kind == "watch":
            return await self._watch(request)
        if kind == "list" and request.method == "GET":
            return self._list(request)
        return self._single(request)

    def _single(self, request: web.Request) -> web.Response:
        item = self.objects.get(request.path.rpartition("/")[2])
        return web.json_response(item) if item is not None else failure(404, "NotFound")

    def _list(self, request: web.Request) -> web.Response:
        begin = int(request.query.get("continue", "0"))
        limit = int(request.query.get("limit", "500"))
        items = list(self.objects.values())[begin : begin + limit]
        metadata = {"resourceVersion": str(self.revision)}
        if begin + limit < len(self.objects):
            metadata["continue"] = str(begin + limit)
        return web.json_response({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        initial = request.query.get("sendInitialEvents") == "true"
        if initial and not self.streaming:
            return failure(422, "Invalid", "sendInitialEvents is forbidden")
        position = self.revision if initial else int(request.query["resourceVersion"])
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        kick = self._kick
        if initial:
            for item in self.objects.values():
                await response.write(event("ADDED", item))
            await response.write(self._bookmark(end=True))
        elif position < self.oldest:
            await response.write(event("ERROR", json.loads(status(410, "Expired", "too old resource version"))))
            return response
        while kick == self._kick:
            wake = self._wake
            for revision, line in [entry for entry in self.history if entry[0] > position]:
                await response.write(line)
                position = revision
            if wake is self._wake:
                await wake.wait()
        return response


@asynccontextmanager
async def serving() -> AsyncIterator[FakeApi]:
    api = FakeApi()
    application = web.Application(client_max_size=8 * 1024 * 1024)
    application.router.add_route("*", "/{path:.*}", api._handle)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        api.url = site.name if not site.name.endswith(":0") else f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield api
    finally:
        api.close_watches()
        await runner.cleanup()


def credentials(url: str, *, token: str | None = None) -> Credentials:
    return Credentials(lambda: Material(server=url, server_name=None, ca=None, token=token))


async def until(condition: Callable[[], object], *, seconds: float = 20.0) -> None:
    """Wait for a condition, looking again every few milliseconds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.005)
