"""`isthmus dns`: runs at the provider, so that offloaded pods find services under the names of their own cluster.

Which namespace is called how is in a ConfigMap of its own namespace, written by the consumer's virtual kubelets.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import dns.exception
import msgspec
import prometheus_client
import structlog
from msgspec import Meta

from isthmus.health import HealthServer
from isthmus.options import LogOptions, OptionsError, host_port
from kube import config
from kube.client import Client
from kube.objects import ConfigMap
from kube.reflector import Reflector
from kube.resources import CONFIG_MAPS
from kube.store import Change
from kube.supervisor import Stage, Supervisor
from reflection.dns.names import NameTable
from reflection.dns.server import DnsServer, Upstream
from reflection.kinds.published import CONFIG_MAP

log = structlog.get_logger(__name__)

_RESOLV_CONF = Path("/etc/resolv.conf")


class DnsOptions(LogOptions, kw_only=True, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """What the user may set. Lists are repeated flags; each description is the flag's help."""

    namespace: Annotated[str, Meta(description="namespace at the provider with the ConfigMap of namespaces")]
    kubeconfig: Annotated[
        str, Meta(description="kubeconfig of the provider cluster; empty: the pod's own service account")
    ] = ""
    listen: Annotated[str, Meta(description="address:port of the DNS server, UDP and TCP")] = "0.0.0.0:5353"
    health_listen: Annotated[str, Meta(description="address:port of /healthz, /readyz and /metrics; empty: none")] = (
        "127.0.0.1:10259"
    )
    consumer_domain: Annotated[str, Meta(description="domain of the consumer cluster")] = "cluster.local"
    provider_domain: Annotated[str, Meta(description="domain of the provider cluster")] = "cluster.local"
    upstream: Annotated[
        list[str],
        Meta(description="address of the provider's DNS, asked in this order; none: those of /etc/resolv.conf"),
    ] = msgspec.field(default_factory=list)


async def run(options: DnsOptions) -> None:
    """Run until SIGTERM or SIGINT. Raises `OptionsError`, `kube.errors.ConfigError`, or what made a part fail."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.ProcessCollector(registry=registry)
    credentials = await config.load(kubeconfig=options.kubeconfig or None)
    async with Client.connect(credentials, name="provider", registry=registry) as client:
        await build(options, client, registry=registry).run(stop)


def build(options: DnsOptions, client: Client, *, registry: prometheus_client.CollectorRegistry) -> Supervisor:
    """Wire it. Raises `OptionsError`."""
    tables = Tables(options)
    known: Reflector[ConfigMap] = Reflector(
        client,
        CONFIG_MAPS,
        decode=ConfigMap,
        namespace=options.namespace,
        field_selector=f"metadata.name={CONFIG_MAP}",
        on_change=tables.changed,
        registry=registry,
    )
    host, port = host_port(options.listen, option="listen")
    upstream = Upstream(options.upstream or nameservers(_RESOLV_CONF))
    server = DnsServer(host, port, table=lambda: tables.now, upstream=upstream, registry=registry)
    supervisor = Supervisor()
    if options.health_listen:
        health_host, health_port = host_port(options.health_listen, option="health-listen")
        health = HealthServer(health_host, health_port, is_ready=lambda: supervisor.started, registry=registry)
        supervisor.add("health", health.run, stage=Stage.SERVERS, ready=health.ready)
    supervisor.add("namespaces", known.run, stage=Stage.CACHES, ready=_waited(known.synced))
    # After the namespaces are known, so that nobody is told of a name that it does not exist only because we start.
    supervisor.add("dns", server.run, stage=Stage.WORKERS, ready=server.ready)
    return supervisor


class Tables:
    """The names as they are now. What was known stays known while the ConfigMap is away."""

    def __init__(self, options: DnsOptions) -> None:
        self._options = options
        try:
            self.now = self._made({})
        except dns.exception.DNSException as error:
            raise OptionsError(f"--consumer-domain, --provider-domain: {error}") from error

    def changed(self, change: Change[ConfigMap]) -> None:
        """The ConfigMap changed."""
        if change.new is not None:
            self.now = self._made(change.new.data)
            log.info("namespaces known", count=len(change.new.data))

    def _made(self, namespaces: dict[str, str]) -> NameTable:
        options = self._options
        return NameTable(namespaces, consumer_domain=options.consumer_domain, provider_domain=options.provider_domain)


def nameservers(file: Path) -> list[str]:
    """The servers of a resolv.conf. Raises `OptionsError` if there is none."""
    words = [line.split() for line in file.read_text().splitlines()]
    found = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    if not found:
        raise OptionsError(f"--upstream: needed, for {file} names no nameserver")
    return found


def _waited(event: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def ready() -> None:
        await event.wait()

    return ready
