"""Keeps the webhook's certificate in a Secret and its registration at the API server, from start to renewal.

Every replica watches the Secret and shows what is in it. The one that leads makes and renews it, and sees to it that
the MutatingWebhookConfiguration trusts it, also after somebody changed or deleted either.
"""

from __future__ import annotations

import base64
import binascii
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import prometheus_client
import structlog

from kube.client import Client
from kube.controller import Controller, Result, TerminalError
from kube.election import NotLeader
from kube.errors import ApiError
from kube.objects import Secret, WithMetadata
from kube.reflector import Reflector
from kube.resources import SECRETS
from kube.store import Change
from reflection.forge.names import MANAGED_BY, MANAGED_BY_LABEL
from reflection.scheduling import certificates, registration
from reflection.scheduling.certificates import Lifetimes, Material, MaterialError
from reflection.scheduling.leadership import NOT_LEADING_RETRY, Leadership
from reflection.scheduling.registration import WEBHOOK_CONFIGURATIONS, Endpoint
from reflection.scheduling.server import Identity

log = structlog.get_logger(__name__)

_KEY = "webhook"
_LONGEST_REST = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperSettings:
    """Names and times. `settle` is how many seconds API servers are given to learn of a new authority."""

    namespace: str
    """Where isthmus runs."""
    endpoint: Endpoint
    secret: str = "isthmus-webhook"  # noqa: S105 - the name of an object
    configuration: str = "isthmus-pods"
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    settle: float = 60.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Keeper:
    """Run `cache_tasks` first, then `worker_tasks`; each for ever."""

    def __init__(
        self,
        client: Client,
        settings: KeeperSettings,
        *,
        identity: Identity,
        leadership: Leadership,
        registry: prometheus_client.CollectorRegistry | None = None,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._client = client
        self._settings = settings
        self._identity = identity
        self._leadership = leadership
        self._clock = clock
        self._shown: Material | None = None
        self._published: tuple[bytes, float] | None = None
        """Newest authority's fingerprint, and when (monotonic) the configuration was first seen to trust it."""
        self._secret: Reflector[Secret] = Reflector(
            client,
            SECRETS,
            decode=Secret,
            namespace=settings.namespace,
            field_selector=f"metadata.name={settings.secret}",
            on_change=self._secret_changed,
            registry=registry,
        )
        self._configuration: Reflector[WithMetadata] = Reflector(
            client,
            WEBHOOK_CONFIGURATIONS,
            decode=WithMetadata,
            field_selector=f"metadata.name={settings.configuration}",
            on_change=lambda _change: self.controller.queue.add(_KEY),
            registry=registry,
        )
        self.controller: Controller[str] = Controller("webhook", self._reconcile, concurrency=1, registry=registry)
        self._expiry = prometheus_client.Gauge(
            "isthmus_webhook_certificate_expiry_seconds",
            "When the webhook's serving certificate expires, in seconds since the epoch.",
            registry=registry,
        )

    def cache_tasks(self) -> Iterable[tuple[str, Callable[[], Awaitable[None]]]]:
        """What watches."""
        return (("webhook certificate", self._secret.run), ("webhook registration", self._configuration.run))

    def worker_tasks(self) -> Iterable[tuple[str, Callable[[], Awaitable[None]]]]:
        """What writes."""
        return (("webhook keeper", self._work),)

    async def _work(self) -> None:
        self.controller.queue.add(_KEY)
        await self.controller.run()

    def _secret_changed(self, change: Change[Secret]) -> None:
        self.controller.queue.add(_KEY)
        if change.new is not None:
            self._show(_material(change.new))

    def _show(self, material: Material | None) -> None:
        if material is None or material == self._shown:
            return
        try:
            self._identity.load(material.serving_pem())
        except ssl.SSLError as error:
            log.error("webhook certificate not usable", error=str(error))
            return
        self._shown = material
        expires = material.certificate.not_valid_after_utc
        self._expiry.set(expires.timestamp())
        log.info("webhook certificate shown", expires=expires.isoformat())

    # -- the leader's part

    async def _reconcile(self, _key: str) -> Result | None:
        try:
            self._leadership.check()
            return await self._keep()
        except NotLeader:
            return Result(requeue_after=NOT_LEADING_RETRY)

    async def _keep(self) -> Result:
        kept = await self._read()
        if kept is not None and kept.metadata.labels.get(MANAGED_BY_LABEL) != MANAGED_BY:
            raise TerminalError(f"Secret {kept.metadata.namespace}/{kept.metadata.name} is not of isthmus: rename one")
        known = _material(kept) if kept is not None else None
        # What is shown is still trusted: if the Secret was deleted or spoilt, it is made again from that.
        known = known or self._shown
        now = self._clock()
        material = certificates.advance(
            known,
            names=self._settings.endpoint.names,
            now=now,
            lifetimes=self._settings.lifetimes,
            settled=self._settled(known),
        )
        if kept is None or _material(kept) != material:
            await self._write(kept, material)
        self._show(material)
        await self._publish(material)
        return Result(requeue_after=self._rest(material, now=now))

    def _settled(self, material: Material | None) -> bool:
        if material is None or self._published is None:
            return False
        newest, since = self._published
        known = newest == certificates.fingerprint(material.authority)
        return known and time.monotonic() - since >= self._settings.settle

    def _rest(self, material: Material, *, now: datetime) -> float:
        if not material.is_newest:
            return self._settings.settle / 4
        rest = min(certificates.next_due(material) - now, _LONGEST_REST)
        # Once all is due but not settled, ask again soon.
        return max(rest.total_seconds(), self._settings.settle / 4)

    async def _read(self) -> Secret | None:
        return await self._client.find(
            SECRETS, namespace=self._settings.namespace, name=self._settings.secret, decode=Secret
        )

    async def _write(self, kept: Secret | None, material: Material) -> None:
        """Create or replace; a conflict is raised and tried again: somebody else led for a moment."""
        namespace, name = self._settings.namespace, self._settings.secret
        metadata = {"name": name, "namespace": namespace, "labels": {MANAGED_BY_LABEL: MANAGED_BY}}
        data = {key: base64.b64encode(value).decode() for key, value in material.encode().items()}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls", "data": data}
        self._leadership.check()
        if kept is None:
            await self._client.create(SECRETS, body, namespace=namespace)
        else:
            body["type"] = kept.type
            metadata |= {"resourceVersion": kept.metadata.resource_version, "uid": kept.metadata.uid}
            await self._client.replace(SECRETS, body, namespace=namespace, name=name)
        log.info(
            "webhook certificate kept",
            expires=material.certificate.not_valid_after_utc.isoformat(),
            authorities=len(material.bundle),
        )

    async def _publish(self, material: Material) -> None:
        body = registration.configuration(
            self._settings.configuration,
            endpoint=self._settings.endpoint,
            bundle=material.bundle_pem(),
            own_namespace=self._settings.namespace,
        )
        self._leadership.check()
        await self._client.apply(
            WEBHOOK_CONFIGURATIONS,
            body,
            name=self._settings.configuration,
            field_manager=registration.FIELD_MANAGER,
        )
        newest = certificates.fingerprint(material.authority)
        if self._published is None or self._published[0] != newest:
            self._published = (newest, time.monotonic())

    async def unregister(self) -> None:
        """Remove the configuration and the Secret: isthmus is being removed."""
        self._leadership.check()
        for resource, namespace, name in (
            (WEBHOOK_CONFIGURATIONS, None, self._settings.configuration),
            (SECRETS, self._settings.namespace, self._settings.secret),
        ):
            try:
                await self._client.delete(resource, namespace=namespace, name=name)
            except ApiError as error:
                if not error.not_found:
                    raise


def _material(secret: Secret) -> Material | None:
    try:
        return certificates.decode({key: base64.b64decode(text) for key, text in secret.data.items()})
    except (MaterialError, binascii.Error) as error:
        log.warning("webhook certificate in the Secret not usable", error=str(error))
        return None
