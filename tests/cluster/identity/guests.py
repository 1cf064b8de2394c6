"""Consumers without a cluster: keys and the handshake, done by the code of the consumer's manager."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from identity.consumer import manifest
from identity.consumer.access import Place, Proof
from identity.consumer.remote import Remote, connect
from identity.keys import PrivateKey
from identity.problems import PendingError
from identity.requests import Party
from kube.errors import ApiError
from tests.cluster.identity.conftest import LONG


class Guest:
    """One that is or becomes a tenant, with a key of its own."""

    def __init__(self, number: int) -> None:
        self.name = f"guest-{number}"
        self.space = f"isthmus-{self.name}"
        self.key, self.pending = PrivateKey.generate(), PrivateKey.generate()
        cluster_id = f"00000000-0000-0000-0000-{number:012}"
        party = Party(consumer_id=self.name, cluster_id=cluster_id)
        self.manifest = manifest.tenant(self.key, party, identity="north", now=datetime.now(UTC))

    async def enter(self, answer: Mapping[str, Any]) -> tuple[Place, Proof]:
        """Come by the working credential, as the consumer's manager does."""
        place = Place(server=answer["server"], ca=answer["caBundle"])
        joining = Proof(user="", certificate=answer["certificate"], key=self.key.pem().decode())
        async with connect(place, joining) as client, asyncio.timeout(LONG):
            remote = Remote(client, namespace=self.space, consumer_id=self.name)
            while True:
                try:
                    info = await remote.info()
                    issued = await remote.ask(info.user, key=self.key, pending=self.pending)
                except PendingError:
                    await asyncio.sleep(0.2)
                except ApiError as error:
                    if not error.forbidden:
                        raise
                    await asyncio.sleep(0.2)  # rights take a moment to count
                else:
                    return place, issued.proof
