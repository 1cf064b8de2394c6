"""Writing the status of ShadowPods, only when it says something new (server-side apply, one field manager)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from api.meta import Condition, condition, with_condition
from api.offloading.definitions import SHADOW_PODS
from api.offloading.shadow_pod import ShadowPod, ShadowPodStatus
from kube.client import Client
from kube.errors import ApiError
from reflection.managed.pod import Verdict
from reflection.managed.refusals import Refusal

FIELD_MANAGER: Final = "isthmus-shadow-pods"
ACCEPTED: Final = "Accepted"
IN_STEP: Final = "InStep"


class Reporter:
    """`now` gives the time as Kubernetes writes it."""

    def __init__(self, client: Client, *, now: Callable[[], str]) -> None:
        self._client = client
        self._now = now

    def problem(self, shadow: ShadowPod) -> Refusal | None:
        """Why the last change of the ShadowPod was not passed on, as its status says of this very generation."""
        found = condition(shadow.status.conditions, IN_STEP)
        if found is None or found.status != "False" or found.observed_generation != shadow.metadata.generation:
            return None
        return Refusal(found.reason, found.message)

    async def refused(self, shadow: ShadowPod, refusal: Refusal) -> None:
        """No pod is made."""
        said = self._condition(shadow, ACCEPTED, refusal)
        await self._write(shadow, said, reason=refusal.reason, message=refusal.message, phase="")

    async def running(self, shadow: ShadowPod, *, phase: str, pod_uid: str, problem: Refusal | None) -> None:
        """There is a pod; `problem` stands against its last change."""
        said = [Condition(type=ACCEPTED, status="True", reason="Allowed", message="the pod was made")]
        if problem is not None:
            said.append(self._condition(shadow, IN_STEP, problem))
        elif condition(shadow.status.conditions, IN_STEP) is not None:
            said.append(Condition(type=IN_STEP, status="True", reason="PassedOn", message="the pod has all changes"))
        await self._write(shadow, *said, phase=phase, pod_uid=pod_uid)

    async def ended(self, shadow: ShadowPod, verdict: Verdict, *, pod_uid: str) -> None:
        """The pod ended, for good. Raises if that could not be written to this very ShadowPod."""
        accepted = Condition(type=ACCEPTED, status="True", reason="Allowed", message="the pod was made")
        await self._write(
            shadow,
            accepted,
            phase=verdict.phase,
            reason=verdict.reason,
            message=verdict.message,
            pod_uid=pod_uid,
            gone_is_fine=False,
        )

    def _condition(self, shadow: ShadowPod, kind: str, refusal: Refusal) -> Condition:
        return Condition(
            type=kind,
            status="False",
            reason=refusal.reason,
            message=refusal.message,
            observed_generation=shadow.metadata.generation,
        )

    async def _write(
        self,
        shadow: ShadowPod,
        *said: Condition,
        phase: str,
        reason: str = "",
        message: str = "",
        pod_uid: str = "",
        gone_is_fine: bool = True,
    ) -> None:
        conditions = shadow.status.conditions
        for one in said:
            conditions = with_condition(conditions, one, now=self._now())
        wanted = ShadowPodStatus(
            observed_generation=shadow.metadata.generation,
            conditions=conditions,
            phase=phase,
            reason=reason,
            message=message,
            pod_uid=pod_uid or shadow.status.pod_uid,
        )
        if wanted == shadow.status:
            return
        meta = shadow.metadata
        body = {
            "apiVersion": SHADOW_PODS.api_version,
            "kind": SHADOW_PODS.kind,
            "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "status": msgspec.to_builtins(wanted),
        }
        try:
            await self._client.apply(
                SHADOW_PODS,
                body,
                name=meta.name,
                namespace=meta.namespace,
                subresource="status",
                field_manager=FIELD_MANAGER,
            )
        except ApiError as error:
            if not gone_is_fine or not (error.not_found or error.status == 409):
                raise
