"""Pods that came and went while no watch was there to tell: the API server is asked."""

import time
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from api.offloading.shadow_pod import ShadowPod
from kube.objects import Object
from kube.store import MutableStore
from reflection.ledger import ASSUMED_SECONDS
from reflection.managed.names import SHADOW_FINALIZER, SHADOW_LABEL
from reflection.managed.shadow_pods import ShadowPods

KEY = ("app-shop", "web")


class Provider:
    """An API server that has no such pod, or a stranger's."""

    def __init__(self, pod: Object | None) -> None:
        self.pod = pod
        self.patched: list[Any] = []

    async def find(self, *_: object, **__: object) -> Object | None:
        return self.pod

    async def patch(self, _resource: object, body: Any, **__: object) -> None:
        self.patched.append(body["metadata"]["finalizers"])


def stranger() -> Object:
    return msgspec.convert({"metadata": {"name": KEY[1], "namespace": KEY[0], "uid": "s"}}, Object)


@pytest.mark.parametrize("there", [None, stranger()])
async def test_a_shadow_pod_is_let_go_whose_pod_went_unseen(there: Object | None) -> None:
    metadata: dict[str, Any] = {"name": KEY[1], "namespace": KEY[0], "uid": "u", "resourceVersion": "2"}
    metadata |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": [SHADOW_FINALIZER]}
    shadows: MutableStore[ShadowPod] = MutableStore()
    shadows.upsert(msgspec.convert({"metadata": metadata, "spec": {"pod": {}}}, ShadowPod, strict=False))
    provider: Any = Provider(there)
    nothing: Any = SimpleNamespace()
    made = ShadowPods(
        provider,
        nothing,
        admission=nothing,
        shadows=shadows,
        pods=MutableStore(),
        namespaces=MutableStore(),
        reporter=nothing,
        check_leading=lambda: None,
    )
    entry = made._ledger[KEY]
    labels = {SHADOW_LABEL: "u"}
    gone = {"name": KEY[1], "namespace": KEY[0], "uid": "p", "resourceVersion": "1", "labels": labels}
    entry.assumed = msgspec.convert({"metadata": gone}, Object)
    entry.assumed_at = time.monotonic() - ASSUMED_SECONDS - 1
    await made.reconcile(KEY)
    assert provider.patched == [[]]
