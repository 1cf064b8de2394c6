"""Controllers as the manager runs them, with its rights, beside tests that block."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry

from kube import config
from kube.client import Client
from kube.events import EventRecorder
from reflection.scheduling.controller import NamespaceOffloadings
from reflection.scheduling.leadership import Alone
from tests.cluster.scheduling.waiting import LONG, Json, running

CONSUMER_ID = "lab"
PROVIDER = "north"
MANAGER = "test:manager"


def binding(role: str, user: str, *, name: str = "") -> Json:
    """Give a ClusterRole to a user everywhere."""
    api = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{api}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name or f"test-{role}"},
        "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": api, "kind": "User", "name": user}],
    }


Part = tuple[Iterable[tuple[str, Callable[[], Awaitable[None]]]], Callable[[], Awaitable[None]]]
"""Tasks, and what waits until they have begun."""


def offloadings(client: Client) -> Part:
    """The controller of NamespaceOffloadings."""
    registry = CollectorRegistry()
    recorder = EventRecorder(client, component="isthmus-manager", host="test", registry=registry)
    controller = NamespaceOffloadings(
        client,
        consumer_id=CONSUMER_ID,
        own_namespace="isthmus",
        leadership=Alone(),
        recorder=recorder,
        cluster_role="isthmus-namespace-offloadings",
        namespace_roles=["isthmus-kinds"],
        registry=registry,
    )
    return (("events", recorder.run), *controller.cache_tasks(), *controller.worker_tasks()), controller.synced


class Background:
    """An event loop in a thread: tests block on kubectl meanwhile."""

    def __init__(self, kubeconfig: Path, part: Callable[[Client], Part]) -> None:
        self._kubeconfig = kubeconfig
        self._part = part
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="controller")

    def __enter__(self) -> "Background":
        self._thread.start()
        assert self._started.wait(LONG), "the controller did not start"
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._thread.is_alive(), "the controller has ended"
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(LONG)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        credentials = await config.load(kubeconfig=str(self._kubeconfig))
        async with Client.connect(credentials, name="consumer") as client:
            tasks, begun = self._part(client)
            async with running(*tasks):
                await begun()
                self._started.set()
                await self._stop.wait()
        await asyncio.sleep(0.5)  # the connections' TLS goodbyes, which asyncio.run would cut off
