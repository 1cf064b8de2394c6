"""Approves the serving certificates of our own virtual kubelets, and of nobody else.

Kubernetes approves no request of the signer kubernetes.io/kubelet-serving by itself, for only who runs the machines
knows their addresses. For virtual nodes that is us: a request is good if the asker is the node itself and each
address is that of a pod of ours which runs this virtual node. Other nodes' requests are left to others.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import msgspec
import prometheus_client
import structlog
from cryptography import x509
from cryptography.x509.oid import NameOID

from kube.client import Client
from kube.controller import Controller, Result
from kube.errors import ApiError
from kube.objects import Metadata
from kube.reflector import Reflector
from kube.resources import CSRS
from kube.store import Change, Key
from vk.node.csr import SIGNER

log = structlog.get_logger(__name__)

Json = dict[str, Any]

PATIENCE = 60.0
"""Seconds to wait until the API server shows the asking pod's address, before the request is denied."""
_RETRY = 0.5
_NODE = "system:node:"
_USAGES = frozenset(("digital signature", "key encipherment", "server auth"))


class CsrSpec(msgspec.Struct, frozen=True, rename="camel"):
    """certificates/v1 CertificateSigningRequestSpec, as far as it is judged."""

    request: str = ""
    signer_name: str = ""
    username: str = ""
    groups: tuple[str, ...] = ()
    usages: tuple[str, ...] = ()


class CsrStatus(msgspec.Struct, frozen=True):
    """Whether it was decided."""

    conditions: tuple[msgspec.Raw, ...] = ()


class Csr(msgspec.Struct, frozen=True):
    """certificates/v1 CertificateSigningRequest with what was asked."""

    metadata: Metadata
    spec: CsrSpec = CsrSpec()
    status: CsrStatus = CsrStatus()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a request, and why; `later` if it may still turn out right."""

    approved: bool
    message: str
    later: bool = False


def asker(csr: Csr) -> str:
    """The node that asks; empty for anybody else."""
    name = csr.spec.username
    return name.removeprefix(_NODE) if name.startswith(_NODE) and "system:nodes" in csr.spec.groups else ""


def judge(csr: Csr, *, addresses: Collection[str]) -> Verdict:
    """Whether a node's request may be approved; `addresses` are those of its pods."""
    try:
        parsed = x509.load_pem_x509_csr(base64.b64decode(csr.spec.request))
        names = _alternative_names(parsed)
    except ValueError as error:
        return Verdict(False, f"not a certificate request: {error}")
    node = asker(csr)
    usages = set(csr.spec.usages)
    problems = {
        "the request's signature is wrong": not parsed.is_signature_valid,
        "the subject is not the asking node's": _attributes(parsed, NameOID.COMMON_NAME) != [f"{_NODE}{node}"],
        "the organisation is not system:nodes": _attributes(parsed, NameOID.ORGANIZATION_NAME) != ["system:nodes"],
        f"usages {sorted(usages)} are not the signer's": "server auth" not in usages or not usages <= _USAGES,
        "alternative names of other kinds than DNS and IP": bool(names["other"]),
        f"names {names['dns']} are not {node}'s": any(name != node for name in names["dns"]),
        "no address at all": not names["ip"],
    }
    for message, wrong in problems.items():
        if wrong:
            return Verdict(False, message)
    if foreign := [ip for ip in names["ip"] if ip not in addresses]:
        return Verdict(False, f"addresses {foreign} are of no pod that runs {node}", later=True)
    return Verdict(True, f"a serving certificate of {node} for the pod that runs it")


def _attributes(parsed: x509.CertificateSigningRequest, kind: x509.ObjectIdentifier) -> list[str]:
    return [str(attribute.value) for attribute in parsed.subject.get_attributes_for_oid(kind)]


def _alternative_names(parsed: x509.CertificateSigningRequest) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"ip": [], "dns": [], "other": []}
    try:
        extension = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return found
    for name in extension.value:
        kind = "ip" if isinstance(name, x509.IPAddress) else "dns" if isinstance(name, x509.DNSName) else "other"
        found[kind].append(str(name.value))
    return found


class ServingApprover:
    """Watches requests and decides those of our nodes. `addresses(node)` is None for a node that is not ours."""

    def __init__(
        self,
        client: Client,
        *,
        addresses: Callable[[str], Collection[str] | None],
        check: Callable[[], None] = lambda: None,
        registry: prometheus_client.CollectorRegistry | None = None,
    ) -> None:
        self._client = client
        self._addresses = addresses
        self._check = check
        self._since: dict[Key, int] = {}
        self.requests: Reflector[Csr] = Reflector(
            client,
            CSRS,
            decode=Csr,
            field_selector=f"spec.signerName={SIGNER}",
            on_change=self._changed,
            registry=registry,
        )
        self.controller: Controller[Key] = Controller("serving-approver", self.reconcile, registry=registry)

    def _changed(self, change: Change[Csr]) -> None:
        if change.new is None:
            self._since.pop(change.key, None)
        else:
            self.controller.queue.add(change.key)

    async def reconcile(self, key: Key) -> Result | None:
        """Decide one request, or wait for its pod's address."""
        csr = self.requests.store.get(key)
        if csr is None or csr.status.conditions or not asker(csr):
            return None
        addresses = self._addresses(asker(csr))
        if addresses is None:
            return None
        verdict = judge(csr, addresses=addresses)
        tries = self._since[key] = self._since.get(key, 0) + 1
        if verdict.later and tries * _RETRY < PATIENCE:
            return Result(requeue_after=_RETRY)
        await self._decide(csr.metadata.name, verdict)
        return None

    async def _decide(self, name: str, verdict: Verdict) -> None:
        condition = {
            "type": "Approved" if verdict.approved else "Denied",
            "status": "True",
            "reason": "IsthmusVirtualNode",
            "message": verdict.message,
        }
        try:
            current: Json = await self._client.get(CSRS, name=name)
            if current.get("status", {}).get("conditions"):
                return
            current.setdefault("status", {})["conditions"] = [condition]
            self._check()
            await self._client.replace(CSRS, current, name=name, subresource="approval")
        except ApiError as error:
            if not (error.not_found or error.conflict):
                raise
            return
        log.info("serving request decided", request=name, approved=verdict.approved, reason=verdict.message)
