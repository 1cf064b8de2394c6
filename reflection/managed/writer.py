"""The virtual kubelet's side of a pod in managed mode: a ShadowPod at the provider, and the pod that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from api.meta import Condition, condition
from api.offloading.definitions import SHADOW_PODS
from kube.client import Client
from kube.errors import ApiError
from kube.objects import Object
from kube.store import Evidence, Key, Store
from reflection.decode import TERMINAL_PHASES, decode_pod, terminal
from reflection.forge import names, sanitise
from reflection.forge.model import Refused
from reflection.managed import template
from reflection.managed.names import SHADOW_LABEL
from reflection.managed.reports import ACCEPTED, IN_STEP
from reflection.remotes import Json, Recorded, Seen, delete

DEFAULT_GRACE: Final = 30
"""Of a pod that names none, pkg/apis/core DefaultTerminationGracePeriodSeconds."""


class _Status(msgspec.Struct, rename="camel"):
    """What of a ShadowPod's status is read here, whatever the provider made of it."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_uid: str = msgspec.field(name="podUID", default="")
    conditions: tuple[Condition, ...] = ()


class _Spec(msgspec.Struct, rename="camel"):
    deletion_grace_period_seconds: int | None = None


class ShadowRemotes:
    """`reflection.remotes.Remotes` that are ShadowPods."""

    resource: Final = SHADOW_PODS

    def __init__(self, provider: Client) -> None:
        self._provider = provider

    # -- requests

    async def find(self, key: Key) -> Object | None:
        """See `Remotes`."""
        return await self._provider.find(SHADOW_PODS, namespace=key[0], name=key[1], decode=Object)

    async def create(self, body: Mapping[str, Any], *, on_warning: Callable[[str], None]) -> Object:
        """See `Remotes`."""
        return await self._provider.create(
            SHADOW_PODS,
            template.shadow(body),
            namespace=body["metadata"]["namespace"],
            decode=Object,
            on_warning=on_warning,
        )

    async def change(self, remote: Object, patch: Mapping[str, Any], *, subresource: str | None) -> Object:
        """See `Remotes`."""
        return await self._patch(remote, template.change(remote, patch))

    async def delete(self, remote: Object, *, grace: int) -> None:
        """See `Remotes`. The grace is written first: without it the pod would get its own."""
        if grace != self._grace_of(remote):
            body = {"metadata": {"uid": remote.metadata.uid}, "spec": {"deletionGracePeriodSeconds": grace}}
            try:
                await self._patch(remote, body)
            except ApiError as error:
                if not (error.not_found or error.conflict):
                    raise
        if not remote.metadata.deletion_timestamp:
            await delete(self._provider, SHADOW_PODS, remote.metadata, grace=None)

    async def _patch(self, remote: Object, body: Mapping[str, Any]) -> Object:
        meta = remote.metadata
        return await self._provider.patch(SHADOW_PODS, body, name=meta.name, namespace=meta.namespace, decode=Object)

    # -- what it says

    def grace(self, remote: Object) -> int | None:
        """See `Remotes`."""
        return self._grace_of(remote) if remote.metadata.deletion_timestamp else None

    def _grace_of(self, remote: Object) -> int:
        said = msgspec.json.decode(remote.spec, type=_Spec).deletion_grace_period_seconds if remote.spec else None
        if said is not None:
            return said
        own = self.asked(remote)["spec"].get("terminationGracePeriodSeconds")
        return own if isinstance(own, int) else DEFAULT_GRACE

    def asked(self, remote: Object) -> Json:
        """See `Remotes`."""
        return template.asked(remote)

    def running(self, remote: Object, pods: Store[Object]) -> Object | None:
        """See `Remotes`."""
        pod = pods.get(remote.metadata.key)
        return pod if pod is not None and pod.metadata.labels.get(SHADOW_LABEL) == remote.metadata.uid else None

    def seen(self, remote: Object, pods: Store[Object]) -> Seen | Recorded | None:
        """See `Remotes`."""
        running, status = self.running(remote, pods), _status(remote)
        ended = Recorded(status.phase, status.reason, status.message) if status.phase in TERMINAL_PHASES else None
        asked = self.asked(remote)
        if running is not None:
            pod = decode_pod(running)
            if ended is not None and not terminal(pod):
                return None  # how it ended its own watch is about to tell
            carried = sanitise.mapping(pod["metadata"].get("annotations")).get(names.CARRIED)
            return Seen(pod, current=carried == asked["metadata"]["annotations"].get(names.CARRIED))
        if ended is not None:
            return ended
        if status.phase not in ("", "Pending") and not self._seen_to_go(remote, status, pods):
            return None
        return Seen({**asked, "status": {"phase": "Pending"}})

    def _seen_to_go(self, remote: Object, status: _Status, pods: Store[Object]) -> bool:
        """Whether the watch told of the end of the pod that the provider speaks of: another is about to come."""
        grave = pods.tombstone(remote.metadata.key)
        return grave is not None and grave.uid == status.pod_uid and grave.evidence is Evidence.WATCH

    def refusal(self, remote: Object) -> Refused | None:
        """See `Remotes`."""
        status = _status(remote)
        said = condition(status.conditions, ACCEPTED)
        if status.phase or said is None or said.status != "False":
            return None
        return Refused("provider", f"{sanitise.reason(said.reason)}: {sanitise.message(said.message)}")

    def change_refusal(self, remote: Object) -> str:
        """See `Remotes`."""
        said = condition(_status(remote).conditions, IN_STEP)
        if said is None or said.status != "False" or said.observed_generation != remote.metadata.generation:
            return ""
        return f"the provider refused the change: {sanitise.message(said.message)}"


def _status(remote: Object) -> _Status:
    try:
        return msgspec.json.decode(remote.status, type=_Status) if remote.status else _Status()
    except msgspec.DecodeError:
        return _Status()
