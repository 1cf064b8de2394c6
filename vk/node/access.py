"""Whether the provider still lets us do our work, published as node condition `ProviderAccess` (fault F16).

A provider may answer and yet have taken our rights away. That does not make the Node not Ready, for pods there go on
and nothing is gained by evicting them; but it has to be seen by who looks at the Node. Each minute the provider is
asked by SelfSubjectAccessReview, which every authenticated user may make.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
import structlog

from kube.client import Client
from kube.errors import KubeError
from kube.resources import NAMESPACES, PODS, SELF_SUBJECT_ACCESS_REVIEWS, Resource
from vk.node.signals import Condition, Notifier

CONDITION = "ProviderAccess"
PERIOD_SECONDS = 60.0
MOST_NAMESPACES = 20

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asks:
    """What we make at the provider: pods, or what stands for them, in mapped namespaces; and namespaces."""

    pods: Resource = PODS
    namespaces: Resource = NAMESPACES
    tenant: str = ""
    """The namespace in which namespaces are asked for; empty: in none."""


DIRECT = Asks()


class _Status(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)


class ProviderAccess:
    """Asks for as long as `run` runs. `namespaces` are the provider's ones in which we make pods, at that moment.

    `makes_namespaces`: whether we make these ourselves, and need that right too.
    """

    def __init__(
        self,
        client: Client,
        *,
        namespaces: Callable[[], Iterable[str]],
        makes_namespaces: bool = False,
        asks: Asks = DIRECT,
    ) -> None:
        self._asks = asks
        self._makes_namespaces = makes_namespaces
        self.changed = Notifier()
        self._client = client
        self._namespaces = namespaces
        self._condition: Condition | None = None

    @property
    def condition(self) -> Condition | None:
        """The node condition; None before anything is known."""
        return self._condition

    async def run(self) -> None:
        """Ask every minute, forever; while the provider cannot answer, what is known stays."""
        while True:
            try:
                await self._look()
            except KubeError as error:
                _log.info("provider_access_unknown", error=str(error))
            await asyncio.sleep(PERIOD_SECONDS)

    async def _look(self) -> None:
        namespaces = sorted(self._namespaces())[:MOST_NAMESPACES]
        if not namespaces and not self._makes_namespaces:
            return
        forbidden = [name for name in namespaces if not await self._may_create(self._asks.pods, namespace=name)]
        can_map = not self._makes_namespaces or await self._may_create(
            self._asks.namespaces, namespace=self._asks.tenant
        )
        condition = _judge(forbidden, can_map=can_map)
        if condition == self._condition:
            return
        self._condition = condition
        log = _log.info if condition.status == "True" else _log.warning
        log("provider_access", status=condition.status, namespaces=forbidden)
        self.changed.notify()

    async def _may_create(self, resource: Resource, *, namespace: str = "") -> bool:
        attributes = {
            "verb": "create",
            "group": resource.group,
            "resource": resource.plural,
            **({"namespace": namespace} if namespace else {}),
        }
        body = {
            "apiVersion": SELF_SUBJECT_ACCESS_REVIEWS.api_version,
            "kind": SELF_SUBJECT_ACCESS_REVIEWS.kind,
            "spec": {"resourceAttributes": attributes},
        }
        review = await self._client.create(SELF_SUBJECT_ACCESS_REVIEWS, body, decode=_Review)
        return review.status.allowed


def _judge(forbidden: list[str], *, can_map: bool) -> Condition:
    if not can_map and not forbidden:
        message = "the provider does not let us make namespaces; pods of namespaces without one there can't start"
        return Condition(type=CONDITION, status="False", reason="NamespacesForbidden", message=message)
    if not forbidden:
        return Condition(type=CONDITION, status="True", reason="Allowed", message="the provider lets us make pods")
    message = (
        f"the provider does not let us make pods in {', '.join(forbidden)}; its administrator can bind our role there"
    )
    return Condition(type=CONDITION, status="False", reason="Forbidden", message=message[:512])
