"""What the reconciler of pods works on, and with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kube.objects import Object
from kube.store import Key, Store
from reflection.caches import RemoteCaches, RemoteNamespace
from reflection.changes import Changer
from reflection.contexts import Contexts
from reflection.endings import Endings
from reflection.forge.model import ForgeContext
from reflection.ledger import Ledger
from reflection.namespaces import MappedNamespaces
from reflection.references import References
from reflection.remotes import Remotes
from reflection.reports import Reports
from reflection.storage.claims import Claims
from reflection.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Pair:
    """What a reconcile works on: the consumer's pod and where its remote pod belongs."""

    key: Key
    origin: Object
    pod: dict[str, Any]
    context: ForgeContext
    caches: RemoteNamespace

    @property
    def remote_key(self) -> Key:
        """Key of the remote pod."""
        return self.caches.name, self.key[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the reconciler is built from."""

    remotes: Remotes
    pods: Store[Object]
    caches: RemoteCaches
    references: References
    namespaces: MappedNamespaces
    contexts: Contexts
    reports: Reports
    ledger: Ledger
    changer: Changer
    endings: Endings
    tokens: Tokens
    claims: Claims
    gives_tokens: Callable[[str], bool]
