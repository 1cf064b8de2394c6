"""What the modules of one manager share, and how they hand their tasks to its supervisor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import prometheus_client

from isthmus.modules.options import ManagerOptions
from kube.client import Client
from kube.config import Credentials
from kube.election import LeaderElector
from kube.events import EventRecorder
from kube.reflector import Reflector
from kube.supervisor import Stage, Supervisor
from kube.together import until_one_ends
from reflection.managed.tenancy import Everyone, Tenants

Work = Callable[[], Awaitable[None]]
"""Runs for ever."""


class LeadershipLostError(Exception):
    """Another replica leads now, or may: this one ends."""


@dataclass(slots=True, kw_only=True)
class Parts:
    """One manager's. Caches run in every replica, `lead` is for what decides and writes."""

    options: ManagerOptions
    client: Client
    """Of the manager's own cluster."""
    credentials: Credentials
    supervisor: Supervisor
    elector: LeaderElector
    recorder: EventRecorder
    registry: prometheus_client.CollectorRegistry
    tenants: Tenants = field(default_factory=Everyone)
    """Who may have what here: for module `provider`, by one that is added before it."""

    def cache(self, name: str, reflector: Reflector[Any]) -> None:
        """Watch, in every replica; workers start when all is listed."""
        self.supervisor.add(name, reflector.run, stage=Stage.CACHES, ready=_synced(reflector))

    def lead(self, name: str, work: Work) -> None:
        """Work that only the leader does."""
        self.supervisor.add(name, while_leading(self.elector, work), stage=Stage.WORKERS)

    def run(self, tasks: Iterable[tuple[str, Work]], *, stage: Stage) -> None:
        """Tasks of every replica."""
        for name, work in tasks:
            self.supervisor.add(name, work, stage=stage)


def while_leading(elector: LeaderElector, work: Work) -> Work:
    """`work`, begun when we lead. Raises `LeadershipLostError` when we no longer do."""

    async def run_led() -> None:
        await elector.leading.wait()
        await until_one_ends(work(), elector.lost())
        raise LeadershipLostError("another replica leads, or may")

    return run_led


def _synced(reflector: Reflector[Any]) -> Work:
    async def ready() -> None:
        await reflector.synced.wait()

    return ready
