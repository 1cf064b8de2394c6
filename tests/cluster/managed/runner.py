"""A managed provider as a process of its own: `python -m tests.cluster.managed.runner KUBECONFIG IDENTITY`."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable

from isthmus import logs
from isthmus.modules.parts import while_leading
from kube import config
from kube.client import Client
from kube.election import LeaderElector
from kube.supervisor import Stage, Supervisor
from reflection.managed.provider import ManagedProvider
from reflection.managed.settings import ManagedSettings


async def main(kubeconfig: str, identity: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Client.connect(await config.load(kubeconfig=kubeconfig), name="provider") as client:
        elector = LeaderElector(
            client, namespace="isthmus", name="isthmus-manager", identity=identity, duration=4.0, retry=0.5
        )
        provider = ManagedProvider(client, ManagedSettings(), check_leading=elector.check)
        supervisor = Supervisor()
        supervisor.add("election", elector.run, stage=Stage.CLIENTS)
        for name, reflector in provider.caches():
            supervisor.add(name, reflector.run, stage=Stage.CACHES)
        for _, reflector in provider.caches():
            supervisor.add("synced", _forever, stage=Stage.CACHES, ready=_until(reflector.synced))
        for name, work in provider.workers():
            supervisor.add(name, while_leading(elector, work), stage=Stage.WORKERS)
        await supervisor.run(stop)


async def _forever() -> None:
    await asyncio.Event().wait()


def _until(event: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def ready() -> None:
        await event.wait()

    return ready


if __name__ == "__main__":
    logs.configure()
    asyncio.run(main(*sys.argv[1:]))
