"""What a caller may: SubjectAccessReviews on nodes/<subresource> of this node, as the kubelet's webhook mode asks them.

Fine-grained subresource first, then `proxy`; any allow wins. Allowed is remembered for five minutes, denied for thirty
seconds. If the API server can't be asked, the answer is no.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from kube.errors import KubeError
from kube.resources import SUBJECT_ACCESS_REVIEWS
from vk.server.authentication import Creator, User
from vk.server.cache import ExpiringCache

log = structlog.get_logger(__name__)

ALLOWED_LIFETIME: Final = 300.0
"""Seconds, as the kubelet's authorization.webhook.cacheAuthorizedTTL."""
DENIED_LIFETIME: Final = 30.0
"""Seconds, as the kubelet's authorization.webhook.cacheUnauthorizedTTL."""


class Authorizer:
    """Decides on requests to the API of one node."""

    def __init__(
        self,
        client: Creator,
        *,
        node_name: str,
        capacity: int = 4096,
        timeout: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._node_name = node_name
        self._timeout = timeout
        self._decisions: ExpiringCache[tuple[User, str, str], bool] = ExpiringCache(capacity=capacity, clock=clock)

    async def allowed(self, user: User, *, verb: str, subresources: Sequence[str]) -> bool:
        """Whether one of the subresources gives `user` the right to `verb`. An unknown verb is never allowed."""
        if not verb:
            return False
        for subresource in subresources:
            if await self._decide(user, verb=verb, subresource=subresource):
                return True
        return False

    async def _decide(self, user: User, *, verb: str, subresource: str) -> bool:
        async def load() -> tuple[bool, float]:
            allowed = await self._review(user, verb=verb, subresource=subresource)
            return allowed, ALLOWED_LIFETIME if allowed else DENIED_LIFETIME

        try:
            return await self._decisions.get((user, verb, subresource), load=load)
        except (KubeError, TimeoutError) as error:
            log.warning("access review failed", user=user.name, subresource=subresource, error=type(error).__name__)
            return False

    async def _review(self, user: User, *, verb: str, subresource: str) -> bool:
        attributes = {"verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource}
        spec: dict[str, Any] = {
            "user": user.name,
            "groups": list(user.groups),
            "resourceAttributes": {**attributes, "name": self._node_name},
        }
        if user.uid:
            spec["uid"] = user.uid
        if user.extra:
            spec["extra"] = {key: list(values) for key, values in user.extra}
        body = {"apiVersion": SUBJECT_ACCESS_REVIEWS.api_version, "kind": SUBJECT_ACCESS_REVIEWS.kind, "spec": spec}
        async with asyncio.timeout(self._timeout):
            review = await self._client.create(SUBJECT_ACCESS_REVIEWS, body)
        status = review.get("status") if isinstance(review, Mapping) else None
        return isinstance(status, Mapping) and status.get("allowed") is True and status.get("denied") is not True
