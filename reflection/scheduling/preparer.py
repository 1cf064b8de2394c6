"""Answers an API server's question about one new pod: what its namespace's strategy adds to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import prometheus_client
import structlog

from kube.errors import KubeError
from reflection.scheduling import names, review, strategy
from reflection.scheduling.review import Request
from reflection.scheduling.strategy import Json, Strategy

log = structlog.get_logger(__name__)

Strategies = Callable[[str], Awaitable[Strategy | None]]
"""The strategy of a namespace; None if it is not offloaded. May raise KubeError."""
Unfit = Callable[[Json], str]
"""Why no provider can run a pod; empty if nothing speaks against it."""


class Preparer:
    """Never denies and never fails: what it cannot do leaves the pod as it is, to be reported by the controller."""

    def __init__(
        self, strategies: Strategies, *, unfit: Unfit, registry: prometheus_client.CollectorRegistry | None = None
    ) -> None:
        self._strategies = strategies
        self._unfit = unfit
        self._outcomes = prometheus_client.Counter(
            "isthmus_webhook_pods",
            "Pods looked at by the webhook: prepared, kept (local, for no provider could run them), passed or failed.",
            ("outcome",),
            registry=registry,
        )

    async def answer(self, request: Request) -> bytes:
        """The review's answer: always one that allows."""
        try:
            outcome, made = await self._prepare(request)
        except KubeError as error:
            log.warning("strategy not known", namespace=request.namespace, error=str(error))
            outcome, made = "failed", review.answer(request.uid)
        except Exception:
            log.exception("pod not prepared", namespace=request.namespace)
            outcome, made = "failed", review.answer(request.uid)
        self._outcomes.labels(outcome).inc()
        return made

    async def _prepare(self, request: Request) -> tuple[str, bytes]:
        wanted = await self._strategies(request.namespace)
        if wanted is None or wanted.pods == "Local" or strategy.exemption(request.object):
            return "passed", review.answer(request.uid)
        reason = self._unfit(request.object)
        if not reason:
            return "prepared", review.answer(request.uid, patch=strategy.patch(request.object, wanted))
        if wanted.pods == "Remote":
            warning = f"isthmus: no provider will run this pod: {reason}"
            return "prepared", review.answer(
                request.uid, patch=strategy.patch(request.object, wanted), warnings=[warning]
            )
        patch = strategy.mark(request.object, names.KEPT_LOCAL)
        return "kept", review.answer(request.uid, patch=patch, warnings=[f"isthmus: the pod stays local: {reason}"])
