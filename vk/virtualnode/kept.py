"""What stays as long as VirtualNodes need it: the kubeconfigs of their providers, and isthmus itself.

Which are needed is asked and acted on under one lock. VirtualNodes end side by side, and what each of them leaves to
"the others" would be left by all; and one that is new must not lose to one that goes what it has just taken hold of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from api import installed
from api.offloading.virtual_node import VirtualNode
from kube.client import Client
from kube.guard import Guard
from kube.objects import Secret
from vk.virtualnode.credentials import Credentials


class Kept:
    """Methods raise KubeError. `virtual_nodes` are all there are, also those that are about to go."""

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        virtual_nodes: Callable[[], Iterable[VirtualNode]],
        check: Callable[[], None],
    ) -> None:
        self._credentials = Credentials(client, namespace)
        self._guard = Guard(client, installed.consumer(namespace), check=check)
        self._virtual_nodes = virtual_nodes
        self._lock = asyncio.Lock()
        self._named: dict[str, str] = {}
        """Secret that each VirtualNode named when it was last looked at."""
        self._done: dict[str, str] = {}
        """UIDs by name of VirtualNodes that need nothing any more, although they may still be seen."""

    async def hold(self) -> None:
        """There are VirtualNodes."""
        async with self._lock:
            await self._guard.hold()

    async def hold_secret(self, virtual: VirtualNode, secret: Secret) -> None:
        """Keep the Secret while it is needed, and no other that was named before, perhaps to another manager."""
        async with self._lock:
            await self._credentials.hold(secret)
            if self._named.get(virtual.metadata.name) != secret.metadata.name:
                await self._credentials.release(self._needed())
                self._named[virtual.metadata.name] = secret.metadata.name

    async def release(self, virtual: VirtualNode) -> None:
        """This one has nothing left but its finalizer. What no other needs is let go."""
        async with self._lock:
            self._done[virtual.metadata.name] = virtual.metadata.uid
            needed = self._needed()
            await self._credentials.release(needed)
            if not needed:
                await self._guard.release()

    async def settle(self) -> None:
        """Let go of what no VirtualNode needs: of what was needed before we began, too."""
        async with self._lock:
            needed = self._needed()
            await self._credentials.release(needed)
            if not needed:
                await self._guard.release()

    async def forget(self, name: str) -> None:
        """It is gone: in order, or because somebody took its finalizer."""
        self._named.pop(name, None)
        if self._done.pop(name, None) is None:
            await self.settle()

    def _needed(self) -> set[str]:
        found = self._virtual_nodes()
        left = (one for one in found if self._done.get(one.metadata.name) != one.metadata.uid)
        return {one.spec.kubeconfig_secret.name for one in left}
