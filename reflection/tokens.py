"""Service account tokens for pods at the provider, with `--api-access` only, and where the namespace opts in.

Each token lives at most an hour and is bound to the consumer's pod (TokenRequest), so it dies with the pod wherever it
was copied to. A namespace that opts out gets no new ones: what its pods have runs out. A token is renewed at 80 % of
its life, as a kubelet does (pkg/kubelet/token/token_manager.go). All tokens of one pod incarnation are in one Secret,
which says whose it is and when its first token expires: a restart resumes by that.
"""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import prometheus_client
import structlog

from kube.client import Client
from kube.controller import Controller, Result
from kube.errors import ApiError, KubeError
from kube.objects import Object, Secret
from kube.resources import SECRETS, SERVICE_ACCOUNTS
from kube.store import Change, Key, Store
from reflection import ownership, proof
from reflection.decode import decode_pod
from reflection.forge import names
from reflection.forge.model import TokenSpec

log = structlog.get_logger(__name__)

RENEW_AT = 0.8
"""Share of a token's life after which it is renewed; a jitter of up to a tenth comes off."""
TOKEN_FOR_LABEL = "offloading.isthmus.dev/token-for"  # noqa: S105 - a label's name
EXPIRES = "offloading.isthmus.dev/expires"
"""Annotation of a token Secret: when the first of its tokens expires."""
SHORTEST = 60.0
STRAY_DELAY = 10.0
"""Seconds that a token Secret nobody holds is left for its pod to claim, at the start."""


REFUSALS_PASS = 5.0
"""Seconds for which a 403 may be the Node authoriser's, which is a moment behind a pod that was bound just now."""


class TokenRefusedError(KubeError):
    """No token for a pod: the consumer gives none for its service account, or a stranger has the Secret's name at the
    provider. Asking again at once is of no use."""


@dataclass(frozen=True, slots=True)
class Held:
    """The tokens of one pod incarnation."""

    pod: Key
    uid: str
    service_account: str
    specs: tuple[TokenSpec, ...]


def renew_in(expiration: str, *, now: datetime) -> float:
    """Seconds until a token that expires at `expiration` (RFC 3339) is to be renewed."""
    left = (datetime.fromisoformat(expiration.replace("Z", "+00:00")) - now).total_seconds()
    return max(SHORTEST, left * (RENEW_AT - 0.1 * random.random()))  # noqa: S311 - jitter


class Tokens:
    """Requests, stores, renews and removes the tokens of offloaded pods, by key of their Secret at the provider."""

    def __init__(
        self,
        consumer: Client,
        provider: Client,
        pods: Store[Object],
        *,
        consumer_id: str,
        node_name: str,
        stored: Callable[[Key], Secret | None],
        permitted: Callable[[str], bool] = lambda _namespace: True,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        """`stored` gives a Secret of this consumer at the provider, as the caches show it; `permitted` says whether
        a consumer namespace gives tokens now."""
        self._consumer = consumer
        self._provider = provider
        self._pods = pods
        self._node_name = node_name
        self._stored = stored
        self._permitted = permitted
        self._labels = {
            names.MANAGED_BY_LABEL: names.MANAGED_BY,
            names.CONSUMER_LABEL: names.label_value(consumer_id),
            names.NODE_LABEL: names.label_value(node_name),
        }
        self._held: dict[Key, Held] = {}
        self._due: dict[Key, float] = {}
        """When (monotonic) the tokens of each Secret are to be renewed, as far as is known."""
        self._of_pod: dict[Key, set[Key]] = {}
        self._refused_since: dict[Key, float] = {}
        self.controller: Controller[Key] = Controller("tokens", self._renew, registry=registry)

    async def run(self) -> None:
        """Renew tokens; ends only by cancellation or a programming error."""
        await self.controller.run()

    def holds(self, origin: Object, *, namespace: str) -> bool:
        """Whether this pod's tokens are in our care."""
        return _secret_key(origin, namespace) in self._held

    async def ensure(self, origin: Object, specs: Iterable[TokenSpec], *, namespace: str) -> None:
        """Have the tokens of a pod at the provider before the pod is created there. `TokenRefusedError`."""
        if self.holds(origin, namespace=namespace):
            return
        key, held = self._hold(origin, specs, namespace)
        try:
            expiration = await self._store_tokens(key, held)
        except BaseException:
            self._let_go(key, held)
            raise
        self._renew_in(key, renew_in(expiration, now=datetime.now(UTC)))

    def resume(self, origin: Object, specs: Iterable[TokenSpec], *, namespace: str) -> None:
        """Take up the tokens of a pod that runs already; renewed at once if it is not known when they expire."""
        if self.holds(origin, namespace=namespace):
            return
        key, held = self._hold(origin, specs, namespace)
        if held.specs:
            secret = self._stored(key)
            expires = secret.metadata.annotations.get(EXPIRES, "") if secret is not None else ""
            self._renew_in(key, _delay(expires))

    def _renew_in(self, key: Key, delay: float) -> None:
        self._due[key] = time.monotonic() + delay
        self.controller.queue.add(key, delay=delay)

    def pod_gone(self, pod: Key) -> None:
        """Both pods are gone: remove the tokens' Secret."""
        self._refused_since.pop(pod, None)
        for key in self._of_pod.get(pod, ()):
            self.controller.queue.add(key)

    def stored_changed(self, namespace: str, change: Change[Secret]) -> None:
        """A token Secret of this consumer changed: one that is lost is written again, a stray one removed."""
        held = (namespace, change.key[1]) in self._held
        if held and change.new is None:
            self.controller.queue.add((namespace, change.key[1]))
        elif change.new is not None and not held and self._is_own(change.new):
            self.controller.queue.add((namespace, change.key[1]), delay=STRAY_DELAY)

    def _hold(self, origin: Object, specs: Iterable[TokenSpec], namespace: str) -> tuple[Key, Held]:
        pod = (origin.metadata.namespace, origin.metadata.name)
        account = decode_pod(origin)["spec"].get("serviceAccountName") or "default"
        key, held = _secret_key(origin, namespace), Held(pod, origin.metadata.uid, account, tuple(specs))
        self._held[key] = held
        self._of_pod.setdefault(pod, set()).add(key)
        return key, held

    def _let_go(self, key: Key, held: Held) -> None:
        self._held.pop(key, None)
        self._due.pop(key, None)
        keys = self._of_pod.get(held.pod, set())
        keys.discard(key)
        if not keys:
            self._of_pod.pop(held.pod, None)

    async def _renew(self, key: Key) -> Result | None:
        held = self._held.get(key)
        if held is None:
            await self._remove_stray(key)
            return None
        pod = self._pods.get(held.pod)
        if pod is None or pod.metadata.uid != held.uid:
            if await self._is_gone(held.pod, held.uid):
                await self._remove(key, held)
                return None
            return Result(requeue_after=SHORTEST)
        if not held.specs:
            return None
        if pod.metadata.deletion_timestamp or not self._permitted(held.pod[0]):
            return Result(requeue_after=SHORTEST)
        return Result(requeue_after=await self._renewed(key, held))

    async def _renewed(self, key: Key, held: Held) -> float:
        """Renew tokens that are due or lost; seconds until the next look."""
        left = self._due.get(key, 0.0) - time.monotonic()
        if left > 0 and self._stored(key) is not None:
            return left  # looked at for another reason, such as a restart
        expiration = await self._store_tokens(key, held)
        delay = renew_in(expiration, now=datetime.now(UTC))
        self._due[key] = time.monotonic() + delay
        return delay

    async def _is_gone(self, pod: Key, uid: str) -> bool:
        state = await proof.origin_state(self._consumer, self._pods, pod, uid=uid, node_name=self._node_name)
        return state is proof.Origin.GONE

    async def _remove(self, key: Key, held: Held) -> None:
        if held.specs:
            await self._delete(key)
        self._let_go(key, held)

    async def _remove_stray(self, key: Key) -> None:
        """Nobody holds this Secret: its pod ended while this process was down. Removed on proof of that."""
        secret = self._stored(key)
        if secret is None or not self._is_own(secret):
            return
        pod, uid = ownership.origin_key(secret.metadata), ownership.origin_uid(secret.metadata)
        if pod is not None and uid is not None and await self._is_gone(pod, uid):
            log.info("removing the tokens of a pod that is gone", pod=f"{pod[0]}/{pod[1]}", secret=key[1])
            await self._delete(key, uid=secret.metadata.uid)

    def _is_own(self, secret: Secret) -> bool:
        labels = secret.metadata.labels
        return TOKEN_FOR_LABEL in labels and labels.get(names.NODE_LABEL) == self._labels[names.NODE_LABEL]

    async def _delete(self, key: Key, *, uid: str | None = None) -> None:
        try:
            await self._provider.delete(SECRETS, name=key[1], namespace=key[0], uid=uid)
        except ApiError as error:
            if not error.not_found:
                raise

    async def _store_tokens(self, key: Key, held: Held) -> str:
        """Request all tokens of a pod and write them; returns when the first of them expires."""
        data: dict[str, str] = {}
        expirations = []
        for spec in held.specs:
            status = await self._request(held, spec)
            data[spec.key] = base64.b64encode(status["token"].encode()).decode()
            expirations.append(str(status["expirationTimestamp"]))
        first = min(expirations)
        await self._write(key, held, data, expires=first)
        return first

    async def _request(self, held: Held, spec: TokenSpec) -> dict[str, Any]:
        namespace, name = held.pod
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": [spec.audience] if spec.audience else [],
                "expirationSeconds": spec.expiration_seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": held.uid},
            },
        }
        try:
            answer: dict[str, Any] = await self._consumer.create(
                SERVICE_ACCOUNTS, body, name=held.service_account, namespace=namespace, subresource="token"
            )
        except ApiError as error:
            if self._is_final(held.pod, error):
                raise TokenRefusedError(
                    f"no token for service account {held.service_account!r}: {error.reason}: {error.message}"
                ) from error
            raise
        self._refused_since.pop(held.pod, None)
        status: dict[str, Any] = answer["status"]
        return status

    def _is_final(self, pod: Key, error: ApiError) -> bool:
        if error.forbidden:
            since = self._refused_since.setdefault(pod, time.monotonic())
            return time.monotonic() - since > REFUSALS_PASS
        return error.not_found or error.invalid

    async def _write(self, key: Key, held: Held, tokens: dict[str, str], *, expires: str) -> None:
        namespace, name = key
        annotations = {
            names.ORIGIN_NAMESPACE: held.pod[0],
            names.ORIGIN_NAME: held.pod[1],
            names.ORIGIN_UID: held.uid,
            EXPIRES: expires,
        }
        body: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": name,
                "labels": {**self._labels, TOKEN_FOR_LABEL: held.uid},
                "annotations": annotations,
            },
            "type": "Opaque",
            "data": tokens,
        }
        uid = await self._uid(key, held.uid)
        if uid is None:
            try:
                await self._provider.create(SECRETS, body, namespace=namespace)
            except ApiError as error:
                if not error.already_exists:
                    raise
                uid = await self._uid(key, held.uid, fresh=True)
        if uid is not None:
            # With the UID it is this very Secret or a conflict, never another that has the name by now.
            body["metadata"]["uid"] = uid
            await self._provider.apply(SECRETS, body, name=name, namespace=namespace, field_manager="isthmus-tokens")

    async def _uid(self, key: Key, pod_uid: str, *, fresh: bool = False) -> str | None:
        """UID of the tokens' Secret, None if there is none. `TokenRefusedError` if a stranger has its name."""
        found = self._stored(key)
        if fresh:
            found = await self._provider.get(SECRETS, name=key[1], namespace=key[0], decode=Secret)
        if found is None:
            return None
        marks = (found.metadata.labels.get(TOKEN_FOR_LABEL), ownership.origin_uid(found.metadata))
        if pod_uid not in marks:  # one of them is enough: somebody may have meddled with ours
            raise TokenRefusedError(
                f"the provider has a Secret {key[0]}/{key[1]} that isthmus did not make for this pod; remove it"
            )
        return found.metadata.uid


def _secret_key(origin: Object, namespace: str) -> Key:
    """Where the tokens of this very pod are kept at the provider."""
    return namespace, names.token_secret_name(origin.metadata.name, origin.metadata.uid)


def _delay(expires: str) -> float:
    """Seconds until tokens are renewed that were found in a Secret; 0 if it does not say when they expire."""
    try:
        expiration = datetime.fromisoformat(expires)
    except ValueError:
        return 0.0
    left = (expiration - datetime.now(UTC)).total_seconds() if expiration.tzinfo is not None else 0.0
    return renew_in(expires, now=datetime.now(UTC)) if left > SHORTEST else 0.0
