"""What the virtual node can carry: from flags, or what the provider's ResourceQuotas leave to us, kept up to date.

With quotas: in one namespace several quotas all hold, so the least counts; the namespaces we use add up, for each
brings its own. What others use there is not ours: capacity = hard - (used - what our own pods use), never below zero.
A limit given by flag as well is an upper bound. A resource that no quota of some namespace names is unlimited there,
so only a flag can tell.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog
from prometheus_client import CollectorRegistry

from kube.client import Client
from kube.quantities import ZERO, Quantity, QuantityError
from kube.reflector import Reflector
from kube.resources import RESOURCE_QUOTAS
from kube.store import Change
from vk.node.objects import Quota
from vk.node.signals import Notifier

Amounts = Mapping[str, Quantity]
OwnUse = Callable[[str], Amounts]

SETTLE_SECONDS = 1.0

_PREFIXES = ("requests.", "limits.")
_NOT_POD_RESOURCES = ("storage",)
_log = structlog.get_logger(__name__)


def nothing_used(namespace: str) -> Amounts:
    """The use of our own pods where nobody knows it: all that is used then counts as others'."""
    del namespace
    return {}


def node_resource(name: str) -> str | None:
    """The node resource that an entry of a quota's `hard` bounds; None if it bounds none.

    `limits.x` bounds x as well: a pod's requests are never more than its limits.
    """
    if name in ("pods", "count/pods"):
        return "pods"
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            return None if rest in _NOT_POD_RESOURCES else rest
    if name in ("cpu", "memory", "ephemeral-storage") or name.startswith("hugepages-"):
        return name
    return None


def left_in(quotas: Iterable[Quota], *, own: Amounts) -> dict[str, Quantity]:
    """What one namespace's quotas leave to us, by node resource. Quotas with scopes bind only some pods: not counted.

    `own` is what our pods use, named as in the quota (`requests.cpu`, `limits.memory`, `pods` ...); a plain node
    resource name stands for its requests.
    """
    left: dict[str, Quantity] = {}
    for quota in quotas:
        if quota.spec.scopes or quota.spec.scope_selector:
            continue
        for name, hard in quota.spec.hard.items():
            resource = node_resource(name)
            if resource is None:
                continue
            amount = _left(hard, used=quota.status.used.get(name, "0"), own=_mine(own, name, resource))
            left[resource] = min(amount, left.get(resource, amount))
    return left


def _mine(own: Amounts, name: str, resource: str) -> Quantity:
    """Our own use as the quota entry `name` counts it: `cpu` is short for `requests.cpu`."""
    names = (name,) if name.startswith("limits.") else (name, f"requests.{resource}", resource)
    return next((own[known] for known in names if known in own), ZERO)


def _left(hard: str, *, used: str, own: Quantity) -> Quantity:
    try:
        bound, taken = Quantity.parse(hard), Quantity.parse(used)
    except QuantityError:
        return ZERO  # an API server sends no such thing; if it does, promise nothing
    others = max(ZERO, taken - own)
    return max(ZERO, bound - others)


def together(namespaces: Sequence[Amounts], *, limit: Amounts) -> dict[str, Quantity]:
    """The node's resources: namespaces added up where all are bounded, at most `limit`, and `limit` elsewhere."""
    total = dict(limit)
    bounded = set.intersection(*(set(left) for left in namespaces)) if namespaces else set()
    for resource in bounded:
        amount = ZERO
        for left in namespaces:
            amount = amount + left[resource]
        total[resource] = min(amount, limit.get(resource, amount))
    return {name: amount if name == "cpu" else amount.floor() for name, amount in total.items()}


class FixedCapacity:
    """Capacity as the user gave it."""

    def __init__(self, resources: Amounts) -> None:
        self.changed = Notifier()
        self._resources = {name: str(amount) for name, amount in resources.items()}

    @property
    def resources(self) -> dict[str, str] | None:
        """Resource name -> quantity."""
        return self._resources


class QuotaCapacity:
    """Capacity as the ResourceQuotas of the provider's namespaces leave it. None until all of them have been read once.

    own_use says what our own pods use in a namespace; call `refresh` when that has changed. Changes are gathered for
    a second: a quota and the pod that it counts do not change at the same moment.
    """

    def __init__(
        self,
        client: Client,
        *,
        namespaces: Sequence[str],
        limit: Amounts | None = None,
        own_use: OwnUse = nothing_used,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self.changed = Notifier()
        self._limit = dict(limit or {})
        self._own_use = own_use
        self._resources: dict[str, str] | None = None
        self._dirty = asyncio.Event()
        self._reflectors = {
            namespace: Reflector(
                client, RESOURCE_QUOTAS, decode=Quota, namespace=namespace, on_change=self._observe, registry=registry
            )
            for namespace in namespaces
        }

    @property
    def resources(self) -> dict[str, str] | None:
        """Resource name -> quantity; None before the quotas are known."""
        return self._resources

    def refresh(self) -> None:
        """What our own pods use has changed."""
        self._dirty.set()

    async def run(self) -> None:
        """Watch the quotas forever."""
        async with asyncio.TaskGroup() as group:
            for namespace, reflector in self._reflectors.items():
                group.create_task(reflector.run(), name=f"quota-watch-{namespace}")
            group.create_task(self._follow(), name="quota-capacity")

    def _observe(self, change: Change[Quota]) -> None:
        del change
        self._dirty.set()

    async def _follow(self) -> None:
        for reflector in self._reflectors.values():
            await reflector.synced.wait()
        while True:
            self._dirty.clear()
            self._compute()
            await self._dirty.wait()
            await asyncio.sleep(SETTLE_SECONDS)

    def _compute(self) -> None:
        namespaces = [
            left_in(reflector.store.values(), own=self._own_use(namespace))
            for namespace, reflector in self._reflectors.items()
        ]
        total = together(namespaces, limit=self._limit)
        resources = {name: str(amount) for name, amount in sorted(total.items())}
        if resources == self._resources:
            return
        if missing := {"cpu", "memory", "pods"} - set(resources):
            _log.warning("capacity_incomplete", missing=sorted(missing), hint="give them by flag or in a ResourceQuota")
        _log.info("capacity_changed", resources=resources)
        self._resources = resources
        self.changed.notify()
