"""What every verb of the API is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from vk.server.instruments import Instruments
from vk.server.interfaces import PodLocator
from vk.server.paths import Target

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from kube.client import Client
    from vk.server.usage import Usage


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """Collaborators and settings of one server."""

    node_name: str
    locator: PodLocator
    usage: Usage
    provider: Client
    instruments: Instruments
    registry: CollectorRegistry
    healthy: Callable[[], bool]
    configuration: dict[str, object]
    stream_idle_timeout: float


Handler = Callable[[Context, web.BaseRequest, Target], Awaitable[web.StreamResponse]]
"""A verb: answers a request whose caller is known and allowed and whose path is valid."""
