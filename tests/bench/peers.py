"""One provider and many consumers: from a Tenant that is applied to a Node that is Ready.

The consumers' control planes are one, and the handshake is done by their managers' code without a manager, so that what
is measured is the provider and what each peer costs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from api.authentication.definitions import TENANTS
from api.authentication.tenant import Tenant
from deploy import stack
from deploy.lab.lab import Lab
from deploy.lab.process import Unit
from identity.consumer import access
from kube import config
from kube.client import Client
from kube.reflector import Reflector
from kube.resources import NODES
from tests.bench import processes
from tests.bench.report import Report, progress
from tests.bench.settings import BenchSettings
from tests.cluster.identity.conftest import lend, start_manager
from tests.cluster.identity.guests import Guest
from vk.node.objects import Node

T = TypeVar("T")
_LONG = 300.0
_EVERY = 0.02


@dataclass(frozen=True, slots=True)
class Passed:
    """Seconds since the Tenant was applied."""

    let_in: float
    """The provider has answered."""
    credential: float
    """The working credential is there."""
    ready: float
    """The Node is Ready."""


@contextmanager
def manager(lab: Lab) -> Iterator[Unit]:
    """The provider's."""
    lend(lab.provider)
    options = (f"--advertise-server={lab.provider.url}", "--log-level=warning")
    unit = start_manager(lab, lab.provider, "lender", "tenants", "provider", options=options)
    try:
        yield unit
    finally:
        unit.stop()


async def run(lab: Lab, unit: Unit, settings: BenchSettings, report: Report) -> None:
    """As many peers at once as the settings say, one number after the other. `unit` is the provider's manager."""
    first = 0
    for count in settings.peers:
        spent = processes.cpu_seconds(unit.pid or 0)
        passed = await _round(lab, range(first, first + count))
        unit.check_alive()
        spent = processes.cpu_seconds(unit.pid or 0) - spent
        first += count
        report.keep("peers", {"peers": count, "passed": [asdict(one) for one in passed], "manager": spent})
        _rows(report, count, passed, spent)
        progress(f"peers: {count}")


def _rows(report: Report, count: int, passed: Sequence[Passed], spent: float) -> None:
    title = f"{count} peers at once" if count > 1 else "1 peer"
    report.add(f"{title}: Tenant applied to answered, s", [], [one.let_in for one in passed])
    report.add(f"{title}: ... to the working credential, s", [], [one.credential for one in passed])
    report.add(f"{title}: ... to the Node Ready, s", [], [one.ready for one in passed])
    report.add(f"{title}: own CPU of the provider's manager a peer, ms", [], [spent * 1000 / count], digits=0)


async def _round(lab: Lab, numbers: range) -> list[Passed]:
    guests = [Guest(number) for number in numbers]
    nodes: list[stack.VirtualNode] = []
    sides = [await config.load(kubeconfig=str(cluster.admin_kubeconfig)) for cluster in (lab.provider, lab.consumer)]
    async with (
        Client.connect(sides[0], name="provider") as provider,
        Client.connect(sides[1], name="consumer") as consumer,
    ):
        tenants = Reflector(provider, TENANTS, decode=Tenant, on_change=lambda _change: None)
        ready = Reflector(consumer, NODES, decode=Node, on_change=lambda _change: None)
        watches = [asyncio.create_task(reflector.run()) for reflector in (tenants, ready)]
        try:
            async with asyncio.timeout(_LONG):
                return list(await asyncio.gather(*(_peer(lab, one, provider, tenants, ready, nodes) for one in guests)))
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            for node in nodes:
                await asyncio.to_thread(node.remove)
            for guest in guests:
                await provider.delete(TENANTS, name=guest.name)


async def _peer(
    lab: Lab,
    guest: Guest,
    provider: Client,
    tenants: Reflector[Tenant],
    nodes: Reflector[Node],
    started: list[stack.VirtualNode],
) -> Passed:
    began = time.monotonic()
    body = yaml.safe_load(guest.manifest)
    await provider.apply(TENANTS, body, name=guest.name, field_manager="bench")
    answer = await _seen(lambda: _answer(tenants.store.get(("", guest.name))))
    let_in = time.monotonic() - began
    place, proof = await guest.enter(yaml.safe_load(answer)["spec"])
    credential = time.monotonic() - began
    file = lab.provider.plan.folder / f"{guest.name}.kubeconfig"
    await asyncio.to_thread(_write, file, access.kubeconfig(place, proof))
    node = await asyncio.to_thread(
        lambda: stack.start(
            lab,
            node=guest.name,
            consumer_id=guest.name,
            options=["--mode=managed"],
            provider_kubeconfig=file,
            log_level="warning",
        )
    )
    started.append(node)
    await _seen(lambda: _is_ready(nodes.store.get(("", guest.name))))
    node.unit.check_alive()
    return Passed(let_in, credential, time.monotonic() - began)


async def _seen(probe: Callable[[], T]) -> T:
    while True:
        if found := probe():
            return found
        await asyncio.sleep(_EVERY)


def _answer(tenant: Tenant | None) -> str:
    return tenant.status.identity if tenant is not None else ""


def _is_ready(node: Node | None) -> bool:
    condition = node.status.condition("Ready") if node is not None else None
    return condition is not None and condition.status == "True"


def _write(file: Path, content: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(content)
