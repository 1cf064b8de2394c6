"""An API server on the loopback address that keeps objects in memory and fails as told. Only for faults: the rest is
tested against real ones.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from kube import config
from kube.client import Client

Json = dict[str, Any]
Fault = Callable[[web.Request], web.Response | None]

_KINDS = {"nodes": "Node", "leases": "Lease", "certificatesigningrequests": "CertificateSigningRequest"}


def refusal(status: int, reason: str, *, headers: dict[str, str] | None = None) -> web.Response:
    """A metav1.Status."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason}
    return web.json_response(body, status=status, headers=headers)


class FakeApi:
    """Objects by path. `requests` records method and path; `fault` may answer in the server's place."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.requests: list[tuple[str, str]] = []
        self.fault: Fault | None = None
        self.watching = 0
        self.on_create: Callable[[Json], None] | None = None
        self._revision = itertools.count(1)
        self._events: list[Json] = []
        self._news = asyncio.Event()

    def count(self, method: str, part: str) -> int:
        return sum(1 for verb, path in self.requests if verb == method and part in path)

    def put(self, path: str, body: Json) -> Json:
        """Create or change an object as someone else would."""
        kind = "MODIFIED" if path in self.objects else "ADDED"
        body.setdefault("kind", _KINDS[path.split("/")[-2]])
        body.setdefault("metadata", {}).setdefault("uid", f"uid-{next(self._revision)}")
        body["metadata"]["resourceVersion"] = str(next(self._revision))
        self.objects[path] = body
        self._tell(kind, body)
        return body

    def remove(self, path: str) -> None:
        body = self.objects.pop(path)
        body["metadata"]["resourceVersion"] = str(next(self._revision))
        self._tell("DELETED", body)

    def _tell(self, kind: str, body: Json) -> None:
        self._events.append({"type": kind, "object": json.loads(json.dumps(body))})
        self._news.set()
        self._news = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        if self.fault is not None and (answer := self.fault(request)) is not None:
            return answer
        if request.path == "/readyz":
            return web.Response(text="ok")
        path = request.path.removesuffix("/status")
        if path.rsplit("/", 1)[-1] in _KINDS:
            return await self._collection(request, path)
        if path not in self.objects:
            return refusal(404, "NotFound")
        if request.method == "PATCH":
            return self._patch(path, await request.json())
        return web.json_response(self.objects[path])

    async def _collection(self, request: web.Request, path: str) -> web.StreamResponse:
        if request.method == "POST":
            body = await request.json()
            target = f"{path}/{body['metadata']['name']}"
            if target in self.objects:
                return refusal(409, "AlreadyExists")
            if self.on_create is not None:
                self.on_create(body)
            return web.json_response(self.put(target, body), status=201)
        if request.query.get("watch"):
            return await self._watch(request, path)
        kind = _KINDS[path.rsplit("/", 1)[-1]]
        items = [item for key, item in self.objects.items() if key.startswith(path + "/")]
        version = str(next(self._revision))
        return web.json_response({"kind": f"{kind}List", "metadata": {"resourceVersion": version}, "items": items})

    def _patch(self, path: str, patch: Json) -> web.Response:
        live = self.objects[path]
        if patch.get("metadata", {}).get("uid", live["metadata"]["uid"]) != live["metadata"]["uid"]:
            return refusal(409, "Conflict")
        merged = json.loads(json.dumps(live))
        _merge(merged, patch)
        return web.json_response(self.put(path, merged))

    async def _watch(self, request: web.Request, path: str) -> web.StreamResponse:
        if request.query.get("sendInitialEvents"):
            return refusal(422, "Invalid")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self.watching += 1
        since, sent = int(request.query.get("resourceVersion") or 0), 0
        kind = _KINDS[path.rsplit("/", 1)[-1]]
        while True:
            news = self._news
            for event in self._events[sent:]:
                item = event["object"]
                if item["kind"] == kind and int(item["metadata"]["resourceVersion"]) > since:
                    await response.write(json.dumps(event).encode() + b"\n")
            sent = len(self._events)
            await news.wait()


def _merge(target: Json, patch: Json) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif key == "conditions":
            by_type = {item["type"]: item for item in target.get(key, [])}
            target[key] = list((by_type | {item["type"]: item for item in value}).values())
        elif key == "addresses":
            target[key] = [item for item in value if "$patch" not in item]
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[FakeApi, Client]]:
    """A running fake and a client of it."""
    api = FakeApi()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server = site._server
    assert server is not None
    port = server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]  # aiohttp types it as AbstractServer
    kubeconfig = folder / "kubeconfig"
    await asyncio.to_thread(kubeconfig.write_text, _kubeconfig(port))
    try:
        async with Client.connect(await config.load(kubeconfig=str(kubeconfig)), name="fake") as client:
            yield api, client
    finally:
        await runner.cleanup()


def _kubeconfig(port: int) -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
    )
