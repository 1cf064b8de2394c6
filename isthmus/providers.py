"""Clients of providers for the manager, each by the kubeconfig that its VirtualNodes name."""

from __future__ import annotations

import asyncio
import base64
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from api.offloading.virtual_node import SecretKey, VirtualNode
from kube import config
from kube.client import Client
from kube.errors import ApiError
from kube.objects import Secret
from kube.resources import SECRETS
from reflection.mapping import default_name


class Providers:
    """What the manager knows of providers. `virtual_nodes` gives all VirtualNodes as of now."""

    def __init__(
        self,
        own: Client,
        *,
        namespace: str,
        consumer_id: str,
        virtual_nodes: Callable[[], Iterable[VirtualNode]],
        declared: Callable[[str, str], str | None] = lambda _provider, _namespace: None,
    ) -> None:
        self._own = own
        self._namespace = namespace
        self._consumer_id = consumer_id
        self._virtual_nodes = virtual_nodes
        self._declared = declared

    def of_node(self, node: str) -> str | None:
        """The provider of a virtual node; None if the node is no virtual one."""
        return next((v.spec.provider for v in self._virtual_nodes() if v.node == node), None)

    def remote_namespace(self, provider: str, namespace: str) -> str:
        """What a namespace is called at the provider: as declared, else by its default name."""
        return self._declared(provider, namespace) or default_name(namespace, consumer_id=self._consumer_id)

    @asynccontextmanager
    async def client(self, provider: str) -> AsyncIterator[Client | None]:
        """A client of the provider; None if no VirtualNode names it any more."""
        virtual = next((v for v in self._virtual_nodes() if v.spec.provider == provider), None)
        if virtual is None:
            yield None
            return
        async with self.client_of(virtual.spec.kubeconfig_secret) as found:
            yield found

    @asynccontextmanager
    async def client_of(self, wanted: SecretKey) -> AsyncIterator[Client | None]:
        """A client by a kubeconfig, which is a file for that moment; None without its Secret."""
        try:
            secret = await self._own.get(SECRETS, name=wanted.name, namespace=self._namespace, decode=Secret)
        except ApiError as error:
            if not error.not_found:
                raise
            yield None
            return
        text = base64.b64decode(secret.data.get(wanted.key, ""))
        with tempfile.TemporaryDirectory(prefix="isthmus-") as folder:
            file = Path(folder) / "kubeconfig"
            await asyncio.to_thread(file.write_bytes, text)
            credentials = await config.load(kubeconfig=str(file))
            async with Client.connect(credentials, name="provider") as client:
                yield client
