"""`python -m tests.bench.flooder KUBECONFIG NAMESPACE CONNECTIONS`: a tenant that asks as fast as it is answered.

Each request goes through admission, and none leaves anything. Ends on SIGTERM with a line: answered, refused.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import aiohttp

from tests import reading

_PATH = "/apis/offloading.isthmus.dev/v1alpha1/namespaces/{}/namespacemaps?dryRun=All"


async def flood(kubeconfig: Path, namespace: str, connections: int) -> tuple[int, int]:
    """Ask until told to stop: how many requests were answered, and how many of them with 429."""
    reader = reading.reader(kubeconfig)
    url = f"https://{reader.connections.host}:{reader.connections.port}{_PATH.format(namespace)}"
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    answered = refused = 0

    async def ask(session: aiohttp.ClientSession, number: int) -> None:
        nonlocal answered, refused
        body = {
            "apiVersion": "offloading.isthmus.dev/v1alpha1",
            "kind": "NamespaceMap",
            "metadata": {"name": f"flood-{number}"},
            "spec": {"namespaceMapping": "DefaultName"},
        }
        while not stop.is_set():
            async with session.post(url, json=body) as response:
                await response.read()
                answered += 1
                refused += response.status == 429

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=reader.connections.tls, limit=connections)
    ) as session:
        asking = [asyncio.create_task(ask(session, number)) for number in range(connections)]
        await stop.wait()
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return answered, refused


if __name__ == "__main__":
    found = asyncio.run(flood(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
    sys.stdout.write(f"{found[0]} {found[1]}\n")
