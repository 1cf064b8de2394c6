"""The node's Lease: the heartbeat that tells the control plane that this process is alive.

Contract (k8s.io/kubernetes/pkg/kubelet/kubelet.go, component-helpers/apimachinery/lease): Lease
`kube-node-lease/<node>`, held by the node's name for 40 s, renewed every 10 s, owned by the Node. It says nothing
about the provider and must not wait for it.

`renewTime` only ever grows, by monotonic time, even if the wall clock is set back: the node lifecycle controller
counts a renewal only if the new renewTime is *after* the last one it saw, so a clock an hour back would otherwise
look like an hour of silence (fault F22).
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter

from kube.backoff import Backoff
from kube.client import Client, PatchType
from kube.errors import ApiError, KubeError
from kube.resources import LEASES
from vk.node.clock import REQUEST_SECONDS, SYSTEM, Clock, rfc3339_micro, wait
from vk.node.objects import Lease
from vk.node.signals import Notifier

NAMESPACE = "kube-node-lease"
DURATION_SECONDS = 40
INTERVAL_SECONDS = 10.0
REFUSED_SECONDS = 10.0

_log = structlog.get_logger(__name__)


class NodeOwner(Protocol):
    """Who knows the Node: the Lease is not renewed before it is established that the Node is ours."""

    established: asyncio.Event
    changed: Notifier

    @property
    def uid(self) -> str:
        """The Node's UID; changes when the Node is made anew."""


class RenewTime:
    """A wall-clock time that never goes back and always moves on. Pure but for the clock."""

    def __init__(self, clock: Clock = SYSTEM) -> None:
        self._clock = clock
        self._last: tuple[datetime, float] | None = None

    def observe(self, moment: datetime) -> None:
        """Take note of a renewTime that is already in the Lease, perhaps by a predecessor with another clock."""
        if self._last is None or moment > self._last[0]:
            self._last = (moment, self._clock.monotonic())

    def next(self) -> datetime:
        """Now; or later, if that is needed to be after the last one by as much as really has passed."""
        moment, ticks = self._clock.now(), self._clock.monotonic()
        if self._last is not None:
            last, at = self._last
            moment = max(moment, last + timedelta(seconds=ticks - at, microseconds=1))
        self._last = (moment, ticks)
        return moment


class LeaseKeeper:
    """Creates the Lease and renews it for as long as `run` runs. Never gives up, never raises but for cancellation."""

    def __init__(
        self,
        client: Client,
        *,
        node_name: str,
        owner: NodeOwner,
        clock: Clock = SYSTEM,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._client = client
        self._name = node_name
        self._owner = owner
        self._clock = clock
        self._renew_time = RenewTime(clock)
        self._backoff = Backoff(base=0.2, maximum=5.0)
        self._known = False
        self._wake = asyncio.Event()
        self.renewed = asyncio.Event()
        self._renewals = Counter(
            "isthmus_node_lease_renewals", "Renewals of the node's Lease by result", ["result"], registry=registry
        )
        owner.changed.subscribe(self._wake.set)

    async def run(self) -> None:
        """Renew forever."""
        await self._owner.established.wait()
        while True:
            self._wake.clear()
            started = self._clock.monotonic()
            delay = await self._attempt()
            if delay is None:
                due = INTERVAL_SECONDS - (self._clock.monotonic() - started)
                await wait(self._wake, seconds=due)
            else:
                await asyncio.sleep(delay)

    async def _attempt(self) -> float | None:
        """Renew once; None if it worked, else the seconds until the next attempt."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._renew()
        except ApiError as error:
            delay = self._after_answer(error)
        except (KubeError, TimeoutError) as error:
            delay = self._backoff.next()
            _log.warning("lease_renewal_failed", node=self._name, error=str(error) or "timeout", retry_after=delay)
        else:
            self._backoff.reset()
            self._renewals.labels("ok").inc()
            self.renewed.set()
            return None
        self._renewals.labels("error").inc()
        return delay

    def _after_answer(self, error: ApiError) -> float:
        if error.not_found or error.already_exists or error.conflict:
            self._known = False  # deleted, or made by someone in between: look again
            delay = self._backoff.next()
        elif error.retryable:
            delay = error.retry_after or self._backoff.next()
        else:
            delay = REFUSED_SECONDS
        _log.warning("lease_renewal_refused", node=self._name, status=error.status, error=str(error), retry_after=delay)
        return delay

    async def _renew(self) -> None:
        if not self._known and not await self._look():
            body = self._body()
            await self._client.create(LEASES, body, namespace=NAMESPACE)
            _log.info("lease_created", node=self._name)
        else:
            patch = PatchType.MERGE
            await self._client.patch(LEASES, self._body(), name=self._name, namespace=NAMESPACE, kind=patch)
        self._known = True

    async def _look(self) -> bool:
        """Whether the Lease exists; its renewTime is the floor of ours."""
        try:
            lease = await self._client.get(LEASES, name=self._name, namespace=NAMESPACE, decode=Lease)
        except ApiError as error:
            if error.not_found:
                return False
            raise
        if lease.spec.renew_time is not None:
            self._renew_time.observe(_parse(lease.spec.renew_time))
        return True

    def _body(self) -> dict[str, object]:
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._name, "uid": self._owner.uid}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": NAMESPACE, "ownerReferences": [owner]},
            "spec": {
                "holderIdentity": self._name,
                "leaseDurationSeconds": DURATION_SECONDS,
                "renewTime": rfc3339_micro(self._renew_time.next()),
            },
        }


def _parse(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
