"""What forging needs to know besides the pod, one object per provider namespace; and the clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from reflection.forge.model import ApiAccess, ForgeContext
from reflection.settings import ReflectionSettings


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Contexts:
    """Makes and keeps `ForgeContext`s."""

    def __init__(self, settings: ReflectionSettings, *, clock: Callable[[], datetime] = _utc_now) -> None:
        self._settings = settings
        self._clock = clock
        self._made: dict[tuple[str, bool], ForgeContext] = {}

    def of(self, remote_namespace: str, *, tokens: bool = True) -> ForgeContext:
        """The context for pods that go to `remote_namespace`, with `tokens` where there is a way to the API server."""
        key = (remote_namespace, tokens)
        found = self._made.get(key)
        if found is None:
            settings = self._settings
            access = None
            if tokens and settings.api_server is not None:
                access = ApiAccess(host=settings.api_server[0], port=settings.api_server[1])
            found = self._made[key] = ForgeContext(
                node_name=settings.node_name,
                consumer_id=settings.consumer_id,
                remote_namespace=remote_namespace,
                node_ips=settings.node_ips,
                api_access=access,
                runtime_classes=settings.runtime_classes,
                node_selector=settings.node_selector,
                translate=settings.translate,
                dns_servers=settings.dns_servers,
                cluster_domain=settings.cluster_domain,
                forbidden_ips=settings.forbidden_ips,
            )
        return found

    def now(self) -> str:
        """The time as Kubernetes writes it (RFC 3339, seconds)."""
        return self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")
