"""Service account tokens for pods at the provider, with `--api-access` only.

Each token is short-lived and bound to the consumer's pod (TokenRequest), so it dies with the pod wherever it was
copied to. It is renewed at 80 % of its life, as a kubelet does (pkg/kubelet/token/token_manager.go).
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import prometheus_client
import structlog

from kube.client import Client
from kube.controller import Controller, Result
from kube.errors import ApiError
from kube.objects import Object
from kube.resources import SECRETS, SERVICE_ACCOUNTS
from kube.store import Key, Store
from reflection.decode import decode_pod
from reflection.forge import names
from reflection.forge.model import TokenSpec

log = structlog.get_logger(__name__)

RENEW_AT = 0.8
"""Share of a token's life after which it is renewed; a jitter of up to a tenth comes off."""
TOKEN_FOR_LABEL = "offloading.isthmus.dev/token-for"  # noqa: S105 - a label's name
SHORTEST = 60.0


@dataclass(slots=True)
class Held:
    """The tokens of one pod."""

    uid: str
    service_account: str
    specs: tuple[TokenSpec, ...]
    namespace: str


def renew_in(expiration: str, *, now: datetime) -> float:
    """Seconds until a token that expires at `expiration` (RFC 3339) is to be renewed."""
    left = (datetime.fromisoformat(expiration.replace("Z", "+00:00")) - now).total_seconds()
    return max(SHORTEST, left * (RENEW_AT - 0.1 * random.random()))  # noqa: S311 - jitter


class Tokens:
    """Requests, stores, renews and removes the tokens of offloaded pods."""

    def __init__(
        self,
        consumer: Client,
        provider: Client,
        pods: Store[Object],
        *,
        consumer_id: str,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self._consumer = consumer
        self._provider = provider
        self._pods = pods
        self._labels = {
            names.MANAGED_BY_LABEL: names.MANAGED_BY,
            names.CONSUMER_LABEL: names.label_value(consumer_id),
        }
        self._held: dict[Key, Held] = {}
        self.controller: Controller[Key] = Controller("tokens", self._renew, registry=registry)

    async def run(self) -> None:
        """Renew tokens; ends only by cancellation or a programming error."""
        await self.controller.run()

    def holds(self, key: Key, uid: str) -> bool:
        """Whether this pod's tokens are in our care."""
        held = self._held.get(key)
        return held is not None and held.uid == uid

    async def ensure(self, key: Key, origin: Object, specs: Iterable[TokenSpec], *, namespace: str) -> None:
        """Have the tokens of a pod at the provider before the pod is created there."""
        if self.holds(key, origin.metadata.uid):
            return
        account = decode_pod(origin)["spec"].get("serviceAccountName") or "default"
        self._held[key] = Held(origin.metadata.uid, account, tuple(specs), namespace)
        try:
            expiration = await self._store_tokens(key, self._held[key])
        except BaseException:
            self._held.pop(key, None)
            raise
        self.controller.queue.add(key, delay=renew_in(expiration, now=datetime.now(UTC)))

    def resume(self, key: Key, origin: Object, specs: Iterable[TokenSpec], *, namespace: str) -> None:
        """After a restart: renew soon, for when the tokens expire is not known."""
        if not self.holds(key, origin.metadata.uid):
            account = decode_pod(origin)["spec"].get("serviceAccountName") or "default"
            self._held[key] = Held(origin.metadata.uid, account, tuple(specs), namespace)
            self.controller.queue.add(key)

    def pod_gone(self, key: Key) -> None:
        """Both pods are gone: remove the tokens' Secret."""
        if key in self._held:
            self.controller.queue.add(key)

    async def _renew(self, key: Key) -> Result | None:
        held = self._held.get(key)
        if held is None:
            return None
        pod = self._pods.get(key)
        if pod is None or pod.metadata.uid != held.uid:
            await self._remove(held)
            self._held.pop(key, None)
            return None
        if pod.metadata.deletion_timestamp:
            return Result(requeue_after=SHORTEST)
        expiration = await self._store_tokens(key, held)
        return Result(requeue_after=renew_in(expiration, now=datetime.now(UTC)))

    async def _remove(self, held: Held) -> None:
        for secret in {spec.secret for spec in held.specs}:
            try:
                await self._provider.delete(SECRETS, name=secret, namespace=held.namespace)
            except ApiError as error:
                if not error.not_found:
                    raise

    async def _store_tokens(self, key: Key, held: Held) -> str:
        """Request all tokens of a pod and write them; returns when the first of them expires."""
        data: dict[str, dict[str, str]] = {}
        expirations = []
        for spec in held.specs:
            status = await self._request(key, held, spec)
            data.setdefault(spec.secret, {})[spec.key] = base64.b64encode(status["token"].encode()).decode()
            expirations.append(str(status["expirationTimestamp"]))
        for secret, tokens in data.items():
            await self._write(secret, held, tokens)
        return min(expirations)

    async def _request(self, key: Key, held: Held, spec: TokenSpec) -> dict[str, Any]:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [spec.audience] if spec.audience else [],
                "expirationSeconds": spec.expiration_seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": key[1], "uid": held.uid},
            },
        }
        answer: dict[str, Any] = await self._consumer.create(
            SERVICE_ACCOUNTS, body, name=held.service_account, namespace=key[0], subresource="token"
        )
        status: dict[str, Any] = answer["status"]
        return status

    async def _write(self, secret: str, held: Held, tokens: dict[str, str]) -> None:
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": secret, "labels": {**self._labels, TOKEN_FOR_LABEL: held.uid}},
            "type": "Opaque",
            "data": tokens,
        }
        await self._provider.apply(SECRETS, body, name=secret, namespace=held.namespace, field_manager="isthmus-tokens")
