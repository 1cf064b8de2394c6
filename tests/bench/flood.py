"""What a tenant that asks as fast as it can does to its neighbours (abuse test A29).

The flood is a process of its own that yields the processor to all others, but what it has the API server do does not:
on a machine with few processors that is most of what is measured here.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from identity import names
from identity.consumer import access
from identity.consumer.remote import connect
from kube.client import Client
from kube.resources import CONFIG_MAPS
from tests.bench.report import Report, progress
from tests.bench.settings import BenchSettings
from tests.cluster.identity.conftest import Peering
from tests.cluster.identity.guests import Guest
from tests.kubectl import Kubectl, admin

_CONNECTIONS = 64
_SAMPLES = 300
_PAUSE = 0.02
NARROW = "bench-narrow"
_FIRST = 900
"""Numbers of these guests, apart from those of part `peers`."""


async def run(lab: Lab, settings: BenchSettings, report: Report) -> None:
    """One neighbour, alone and beside a flood, in turn; first in the level of all Tenants, then in a narrow one.

    The lab has a provider's manager that runs.
    """
    loud, quiet = Guest(_FIRST), Guest(_FIRST + 1)
    peering = Peering(admin(lab.consumer, "isthmus"), admin(lab.provider, "isthmus"), lab.folder)
    entered = [await guest.enter(await asyncio.to_thread(_answer, peering, guest)) for guest in (loud, quiet)]
    file = lab.folder / "loud.kubeconfig"
    file.touch(mode=0o600)
    file.write_bytes(access.kubeconfig(*entered[0]))
    async with connect(*entered[1]) as client:
        for level in ("", NARROW):
            if level:
                await asyncio.to_thread(_narrow, peering.provider, loud)
            await _rounds(client, (loud, quiet), file, settings, report, level=level)
    for guest in (loud, quiet):
        await asyncio.to_thread(peering.provider.run, "delete", "tenant", guest.name, timeout=120)


async def _rounds(
    client: Client, guests: tuple[Guest, Guest], file: Path, settings: BenchSettings, report: Report, *, level: str
) -> None:
    loud, quiet = guests
    alone: list[list[float]] = []
    beside: list[list[float]] = []
    done: list[int] = []
    for number in range(settings.rounds):
        alone.append(await _sample(client, quiet))
        with _flood(file, loud) as answered:
            beside.append(await _sample(client, quiet))
        done.append(answered[0])
        progress(f"flood: {level or 'common level'}, round {number + 1}")
    report.keep("flood", {"level": level, "alone": alone, "beside": beside, "flood": done})
    where = "in a narrow level" if level else "in the level of all"
    for title, share in (("median", 0.5), ("p99", 0.99)):
        rows = ([_quantile(one, share) * 1000 for one in sides] for sides in (alone, beside))
        report.add(f"beside a flood {where}: a neighbour's request, {title}, ms", *rows)
    rate = [one / (sum(taken) + _SAMPLES * _PAUSE) for one, taken in zip(done, beside, strict=True)]
    report.add(f"beside a flood {where}: what the flood got, requests/s", [], rate, digits=0)


def _narrow(provider: Kubectl, guest: Guest) -> None:
    """A priority level with one share, and the Tenant in it."""
    made = yaml.safe_load((ROOT / "deploy/policies/tenants/flows.yaml").read_text())
    made["metadata"]["name"] = NARROW
    made["spec"]["limited"]["nominalConcurrencyShares"] = 1
    made["spec"]["limited"]["lendablePercent"] = 0
    made["spec"]["limited"]["borrowingLimitPercent"] = 0
    provider.apply(made)
    patch = json.dumps({"spec": {"priorityLevel": NARROW}})
    provider.run("patch", "tenant", guest.name, "--type=merge", "-p", patch)
    flow = f"isthmus-tenant-{guest.name}"
    provider.wait_for("flowschema", flow, lambda it: it["spec"]["priorityLevelConfiguration"]["name"] == NARROW)


def _answer(peering: Peering, guest: Guest) -> dict[str, str]:
    peering.provider.run("apply", "-f", "-", stdin=guest.manifest)
    found = peering.provider.wait_for("tenant", guest.name, lambda it: it["status"]["identity"])
    spec: dict[str, str] = yaml.safe_load(found["status"]["identity"])["spec"]
    return spec


async def _sample(client: Client, guest: Guest) -> list[float]:
    """Seconds that requests take, one after the other."""
    taken: list[float] = []
    for _ in range(_SAMPLES):
        began = time.perf_counter()
        await client.get(CONFIG_MAPS, name=names.INFO, namespace=names.tenant_namespace(guest.name))
        taken.append(time.perf_counter() - began)
        await asyncio.sleep(_PAUSE)
    return taken


@contextmanager
def _flood(kubeconfig: Path, guest: Guest) -> Iterator[list[int]]:
    """A flood for the time of the block; how many requests it got is in the list afterwards."""
    argv = [
        "nice",
        "-n",
        "19",
        sys.executable,
        "-m",
        "tests.bench.flooder",
        str(kubeconfig),
        names.tenant_namespace(guest.name),
    ]
    process = subprocess.Popen([*argv, str(_CONNECTIONS)], stdout=subprocess.PIPE, cwd=ROOT)
    answered = [0]
    try:
        yield answered
    finally:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
        answered[0] = int(said.split()[0])


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
