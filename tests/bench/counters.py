"""What was asked of whom and what it cost: counters of API servers and virtual kubelet, and the difference of two."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from deploy.lab.cluster import LabCluster
from deploy.stack import HEALTH_PORT, VirtualNode
from kube.client import Client
from tests.bench import processes

READS = frozenset({"get", "list", "watch", "raw", "stream", "upgrade", "connect"})
# What a virtual node does whether or not there are pods.
_UPKEEP = frozenset(
    {"leases", "nodes", "certificatesigningrequests", "tokenreviews", "subjectaccessreviews", "endpointslices"}
)
_LINE = re.compile(r"^(\w+)\{(.*)\} (\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')

Requests = Counter[str]
"""Number of requests by "verb resource"."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Counters at one time, or what was added between two."""

    cpu: Counter[str]
    """Seconds by "cluster/program", "virtual-kubelet" and "machine"."""
    servers: dict[str, Requests]
    """Requests by cluster as its API server counts them, of all clients."""
    own: dict[str, Requests]
    """Requests of the virtual kubelet by cluster."""

    def since(self, before: Counts) -> Counts:
        """What was added after `before`."""
        return Counts(
            cpu=self.cpu - before.cpu,
            servers={name: self.servers[name] - before.servers.get(name, Counter()) for name in self.servers},
            own={name: self.own[name] - before.own.get(name, Counter()) for name in self.own},
        )

    def requests(self, cluster: str) -> int:
        """Requests to the API server about pods and what belongs to them, watches left out."""
        found = self.servers.get(cluster, Counter())
        return sum(count for key, count in found.items() if not key.startswith(("watch ", "connect ")))

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        own = {name: dict(found) for name, found in self.own.items()}
        servers = {name: dict(found) for name, found in self.servers.items()}
        return {"cpu": {k: round(v, 3) for k, v in self.cpu.items()}, "servers": servers, "own": own}


class Meter:
    """Takes counts of some clusters and, if there is one, of a virtual kubelet between them."""

    def __init__(self, clusters: Iterable[LabCluster], clients: dict[str, Client], node: VirtualNode | None) -> None:
        self._clusters = list(clusters)
        self._clients = clients
        self._node = node

    async def before(self, *, upkeep: bool = False) -> Counts:
        """Counts for the beginning: CPU is read last, so that reading the others does not count.

        `upkeep` says that the virtual kubelet's requests for the Node itself count too.
        """
        servers, own = await self._servers(), await self.own(upkeep=upkeep)
        return Counts(self._cpu(), servers, own)

    async def after(self, *, upkeep: bool = False) -> Counts:
        """Counts for the end: CPU is read first."""
        cpu = self._cpu()
        return Counts(cpu, await self._servers(), await self.own(upkeep=upkeep))

    async def own(self, *, upkeep: bool = False) -> dict[str, Requests]:
        """The virtual kubelet's requests so far, by cluster; none without one."""
        if not self._alive:
            return {}
        text = await asyncio.to_thread(_fetch, self._metrics_url)
        found: dict[str, Requests] = {"consumer": Counter(), "provider": Counter()}
        for labels, value in _samples(text, "isthmus_client_requests_total"):
            if upkeep or (labels["resource"] and labels["resource"] not in _UPKEEP):
                found[labels["client"]][f"{labels['verb']} {labels['resource']}"] += int(value)
        return found

    async def reconciles(self) -> Counter[str]:
        """The virtual kubelet's reconciles so far, by controller and result."""
        text = await asyncio.to_thread(_fetch, self._metrics_url) if self._alive else ""
        samples = _samples(text, "isthmus_reconcile_total")
        return Counter({f"{labels['controller']} {labels['result']}": int(value) for labels, value in samples})

    @property
    def _alive(self) -> bool:
        return self._node is not None and self._node.unit.alive

    @property
    def _metrics_url(self) -> str:
        return f"http://{self._node.host.ip}:{HEALTH_PORT}/metrics" if self._node is not None else ""

    @staticmethod
    def is_write(key: str) -> bool:
        """Whether requests counted under this key change something."""
        return key.split(maxsplit=1)[0] not in READS

    async def settled(self, *, quiet: float = 1.0, timeout: float = 60.0) -> None:
        """Until the virtual kubelet has written nothing for `quiet` seconds; gives up silently after `timeout`."""
        loop = asyncio.get_running_loop()
        last, since, end = await self.own(), loop.time(), loop.time() + timeout
        while loop.time() < end and loop.time() - since < quiet:
            await asyncio.sleep(1.0)  # each look costs the virtual kubelet some milliseconds
            if (now := await self.own()) != last:
                last, since = now, loop.time()

    def _cpu(self) -> Counter[str]:
        found: Counter[str] = Counter()
        seconds: dict[str, float] = {"machine": processes.machine_busy_seconds()}
        for cluster in self._clusters:
            for name in cluster.unit_names():
                if pid := cluster.unit(name).pid:
                    seconds[f"{cluster.name}/{name}"] = processes.cpu_seconds(pid)
        if self._node is not None and (pid := self._node.unit.pid):
            seconds["virtual-kubelet"] = processes.cpu_seconds(pid)
        # A Counter subtracts key by key; milliseconds keep it whole.
        found.update({name: int(value * 1000) for name, value in seconds.items()})
        return found

    async def _servers(self) -> dict[str, Requests]:
        return {cluster.name: await _server(self._clients[cluster.name]) for cluster in self._clusters}


async def _server(client: Client) -> Requests:
    text = (await client.raw("GET", "/metrics")).decode()
    found: Requests = Counter()
    for labels, value in _samples(text, "apiserver_request_total"):
        resource = labels["resource"]
        if resource and resource not in _UPKEEP:
            full = f"{resource}/{labels['subresource']}" if labels["subresource"] else resource
            found[f"{labels['verb'].lower()} {full}"] += int(float(value))
    return found


def _samples(text: str, name: str) -> Iterable[tuple[dict[str, str], float]]:
    for line in text.splitlines():
        if line.startswith(name) and (match := _LINE.match(line)) and match[1] == name:
            yield dict(_LABEL.findall(match[2])), float(match[3])


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
    return text
