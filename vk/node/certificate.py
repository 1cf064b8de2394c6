"""The certificate with which the kubelet API is served: by CSR or from files; renewed without restart.

By CSR (as k8s.io/client-go/util/certificate does): a new key and request, wait for as long as approval takes, check
what comes back, replace the pair in one step, renew at a random point of 70-90 % of its life and serve the old one
until then. A request that is denied or fails is repeated with a new key after a growing pause. Nothing here holds up
the heartbeat.

How it stands is published as node condition `ServingCertificate`.
"""

import asyncio
import base64
import ssl
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, Gauge

from kube.backoff import Backoff, between
from kube.client import Client
from kube.errors import ApiError, KubeError
from kube.resources import CSRS
from vk.node import csr
from vk.node.clock import REQUEST_SECONDS, SYSTEM, Clock
from vk.node.csr import CertificateError, Key, Names, Pair
from vk.node.keystore import KeyStore
from vk.node.objects import Csr
from vk.node.signals import Condition, ConditionStatus, Notifier

CONDITION = "ServingCertificate"
LOOK_SECONDS = 60.0
PENDING_SECONDS = 5.0  # an approver that is quick need not be waited for in public
FILE_SECONDS = 10.0
RENEW_FROM, RENEW_TO = 0.7, 0.9
HOLD_OFF = timedelta(minutes=5)

_log = structlog.get_logger(__name__)


class ServingCertificate(Protocol):
    """What a server needs of a certificate's manager, whichever way it gets it."""

    changed: Notifier

    async def ready(self) -> None:
        """Return once there is a pair to serve with."""

    def serve(self, context: ssl.SSLContext) -> None:
        """Load the pair into `context`, now and whenever it is renewed. Only once ready."""

    async def run(self) -> None:
        """Keep the pair fresh, forever."""


class _Served:
    """What both managers share: the current pair's file, its condition and who is to be told."""

    def __init__(self, *, registry: CollectorRegistry | None) -> None:
        self.changed = Notifier()
        self._ready = asyncio.Event()
        self._condition: Condition | None = None
        self._expiry = Gauge(
            "isthmus_serving_certificate_expiry_timestamp_seconds",
            "When the serving certificate ends",
            registry=registry,
        )

    @property
    def condition(self) -> Condition | None:
        """The node condition; None before anything is known."""
        return self._condition

    async def ready(self) -> None:
        """Return once there is a pair to serve with."""
        await self._ready.wait()

    def _state(self, status: ConditionStatus, reason: str, message: str) -> None:
        condition = Condition(type=CONDITION, status=status, reason=reason, message=message[:512])
        if condition == self._condition:
            return
        self._condition = condition
        log = _log.info if status == "True" else _log.warning
        log("serving_certificate", status=status, reason=reason, detail=message)
        self.changed.notify()

    def _issued(self, leaf_end: datetime) -> None:
        self._expiry.set(leaf_end.timestamp())
        self._ready.set()
        self._state("True", "Issued", f"valid until {leaf_end.isoformat()}")


class _Loader:
    """Loads a pair into the contexts that serve with it."""

    def __init__(self) -> None:
        self._contexts: list[ssl.SSLContext] = []

    def add(self, context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
        context.load_cert_chain(certificate, key)
        self._contexts.append(context)

    def reload(self, certificate: Path, key: Path | None) -> None:
        for context in self._contexts:
            context.load_cert_chain(certificate, key)


class CertificateManager(_Served):
    """Gets the pair from the cluster's signer kubernetes.io/kubelet-serving, as the node's own identity."""

    def __init__(
        self,
        client: Client,
        *,
        names: Names,
        state: Path,
        expiration_seconds: int | None = None,
        clock: Clock = SYSTEM,
        registry: CollectorRegistry | None = None,
    ) -> None:
        super().__init__(registry=registry)
        self._client = client
        self._names = names
        self._store = KeyStore(state)
        self._expiration = expiration_seconds
        self._clock = clock
        self._backoff = Backoff(base=5.0, maximum=300.0)
        self._loader = _Loader()
        self._pair: Pair | None = None
        self._renew_at: datetime | None = None

    @property
    def pair(self) -> Pair | None:
        """The pair in use."""
        return self._pair

    def serve(self, context: ssl.SSLContext) -> None:
        """Load the pair into `context`, now and whenever it is renewed. Only once ready."""
        self._loader.add(context, self._store.path, None)

    async def run(self) -> None:
        """Keep the pair fresh, forever."""
        await self._reuse()
        while True:
            now = self._clock.now()
            if self._renew_at is None or now >= self._renew_at:
                await self._renew()
            else:
                # The wall clock may jump, so it is looked at often rather than slept towards.
                await asyncio.sleep(min(LOOK_SECONDS, (self._renew_at - now).total_seconds()))

    async def _reuse(self) -> None:
        """Take up the pair of an earlier run if it is still good for our names."""
        try:
            pair = await asyncio.to_thread(self._store.load, now=self._clock.now())
        except (CertificateError, OSError) as error:
            _log.warning("stored_serving_certificate_unusable", error=str(error))
            return
        if pair is None:
            return
        if missing := csr.missing_names(pair.leaf, self._names):
            _log.info("stored_serving_certificate_lacks_names", missing=sorted(missing))
            return
        self._use(pair)

    async def _renew(self) -> None:
        try:
            key = await asyncio.to_thread(self._store.pending)
            try:
                chain = await self._request(key)
                await self._install(chain, key=key)
            except CertificateError:
                await asyncio.to_thread(self._store.discard)
                raise
        except CertificateError as error:
            await self._failed("Refused", str(error))
        except OSError as error:
            await self._failed(
                "StateUnusable", f"the key cannot be kept in {self._store.path.parent}: {error.strerror}"
            )
        except (KubeError, TimeoutError) as error:
            await self._failed("RequestFailed", str(error) or "timeout")
        else:
            self._backoff.reset()

    async def _install(self, chain: bytes, *, key: Key) -> None:
        pair = csr.accept(chain, key=key, now=self._clock.now())
        missing, extra = csr.missing_names(pair.leaf, self._names), csr.extra_names(pair.leaf, self._names)
        if missing or extra:
            message = (
                f"the issued certificate is for other names (missing {sorted(missing)}, not asked for {sorted(extra)})"
            )
            raise CertificateError(message)
        await asyncio.to_thread(self._store.save, pair)
        self._use(pair)
        self._hold_off(pair)
        self._loader.reload(self._store.path, None)

    def _use(self, pair: Pair) -> None:
        start, end = pair.leaf.not_valid_before_utc, pair.leaf.not_valid_after_utc
        if self._clock.now() < start:
            _log.warning(
                "serving_certificate_not_yet_valid", not_before=start.isoformat(), hint="check this machine's clock"
            )
        self._pair = pair
        self._renew_at = start + (end - start) * between(RENEW_FROM, RENEW_TO)
        self._issued(end)

    def _hold_off(self, pair: Pair) -> None:
        """A certificate that is due for renewal as it arrives means that our clock is wrong: no loop of requests."""
        life = pair.leaf.not_valid_after_utc - pair.leaf.not_valid_before_utc
        earliest = self._clock.now() + min(HOLD_OFF, life / 2)
        if self._renew_at is not None and self._renew_at < earliest:
            _log.warning("serving_certificate_soon_due", hint="check this machine's clock and the signer's")
            self._renew_at = earliest

    async def _failed(self, reason: str, message: str) -> None:
        delay = self._backoff.next()
        self._waiting(reason, message, pending="False")
        _log.warning("serving_certificate_request_failed", reason=reason, error=message, retry_after=delay)
        await asyncio.sleep(delay)

    def _waiting(self, reason: str, message: str, *, pending: ConditionStatus) -> None:
        """Say how it stands while there is no new pair; the old one, if any, is served to its end."""
        old = self._pair
        if old is None:
            self._state("False", reason, message)
        elif self._clock.now() >= old.leaf.not_valid_after_utc:
            self._state("False", "Expired", f"expired; renewal: {message}")
        else:
            end = old.leaf.not_valid_after_utc.isoformat()
            self._state(pending, f"Renewal{reason}", f"the present one is served until {end}; renewal: {message}")

    async def _request(self, key: Key) -> bytes:
        """Ask, and wait for as long as it takes; the issued chain. CertificateError if refused."""
        name = csr.object_name(key, self._names)
        await self._submit(name, key=key)
        pause, asked = 0.2, self._clock.monotonic()
        while True:
            found = await self._look(name)
            if found is not None:
                _check(found, name=name)
                if found.status.certificate:
                    return found.status.certificate
                if self._clock.monotonic() - asked >= PENDING_SECONDS:
                    approved = any(condition.type == "Approved" for condition in found.status.conditions)
                    hint = "waits for the signer" if approved else f"approve it: kubectl certificate approve {name}"
                    self._waiting("Pending", f"request {name}: {hint}", pending="True")
            await asyncio.sleep(pause)
            pause = min(10.0, pause * 1.5)

    async def _look(self, name: str) -> Csr | None:
        """The request's state; None if it could not be read just now."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                return await self._client.get(CSRS, name=name, decode=Csr)
        except ApiError as error:
            if error.not_found:
                message = f"request {name} was removed before it was answered"
                raise CertificateError(message) from error
            if not error.retryable:
                raise
            await asyncio.sleep(error.retry_after or 1.0)
        except (KubeError, TimeoutError) as error:
            _log.info("serving_certificate_request_unreadable", request=name, error=str(error) or "timeout")
        return None

    async def _submit(self, name: str, *, key: Key) -> None:
        spec: dict[str, object] = {
            "request": base64.b64encode(key.request(self._names)).decode(),
            "signerName": csr.SIGNER,
            "usages": list(csr.USAGES),
        }
        if self._expiration is not None:
            spec["expirationSeconds"] = self._expiration
        body = {
            "apiVersion": "certificates.k8s.io/v1",
            "kind": "CertificateSigningRequest",
            "metadata": {"name": name},
            "spec": spec,
        }
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._client.create(CSRS, body)
        except ApiError as error:
            if not error.already_exists:  # an earlier run of ours asked with the same key: wait for its answer
                raise
        else:
            _log.info("serving_certificate_requested", request=name, names=sorted(self._names.alternative()))


def _check(request: Csr, *, name: str) -> None:
    for condition in request.status.conditions:
        if condition.type in ("Denied", "Failed"):
            message = f"request {name} {condition.type.lower()}: {condition.reason} {condition.message}".rstrip()
            raise CertificateError(message)


class CertificateFiles(_Served):
    """Serves a pair that someone else keeps in two files, and takes up new ones as they appear."""

    def __init__(
        self, *, certificate: Path, key: Path, clock: Clock = SYSTEM, registry: CollectorRegistry | None = None
    ) -> None:
        super().__init__(registry=registry)
        self._certificate = certificate
        self._key = key
        self._clock = clock
        self._loader = _Loader()
        self._seen: bytes = b""

    def serve(self, context: ssl.SSLContext) -> None:
        """Load the pair into `context`, now and whenever the files change. Only once ready."""
        self._loader.add(context, self._certificate, self._key)

    async def run(self) -> None:
        """Look at the files every 10 s, forever."""
        while True:
            try:
                await self._look()
            except (CertificateError, OSError, ssl.SSLError) as error:
                # In the middle of being replaced, or broken: the context goes on with what it has.
                self._state("False", "FilesUnusable", f"{self._certificate.name}, {self._key.name}: {error}")
            await asyncio.sleep(FILE_SECONDS)

    async def _look(self) -> None:
        chain, key = await asyncio.to_thread(self._read)
        if chain + key == self._seen and self._condition is not None and self._condition.status == "True":
            return
        pair = csr.accept(chain, key=Key.load(key), now=self._clock.now())
        self._loader.reload(self._certificate, self._key)
        self._seen = chain + key
        self._issued(pair.leaf.not_valid_after_utc)

    def _read(self) -> tuple[bytes, bytes]:
        return self._certificate.read_bytes(), self._key.read_bytes()
