"""The checked approver: signs off kubelets' certificate requests, real and virtual, only if all in them is right.

A request is approved when the asker is the very node that it names, its usages are those of its signer, and (serving
certificates) every address is one that the lab gave to that node. Anything else is denied with the reason as message.
Requests for nodes that the lab does not know are left to whoever approves those.
Rules: the signers' in https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/.
"""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from deploy.lab.api import Api, Json, StatusError
from deploy.lab.console import say

SERVING = "kubernetes.io/kubelet-serving"
CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
_PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
_USAGES = {SERVING: "server auth", CLIENT: "client auth"}
_NODE = "system:node:"
_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a request, and why."""

    approved: bool
    message: str


def judge(request: Json, *, addresses: Collection[str]) -> Verdict:
    """Check one request of the two signers; `addresses` are those that the asking node may have."""
    spec = request["spec"]
    try:
        parsed = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
        subject = parsed.subject
        common = [str(a.value) for a in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        groups = [str(a.value) for a in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        valid = parsed.is_signature_valid
        names = _alternative_names(parsed)
    except ValueError as error:
        return Verdict(False, f"not a certificate request: {error}")
    problems = {
        "the request's signature is wrong": not valid,
        "the subject is not a node's": len(common) != 1 or not common[0].startswith(_NODE),
        "the organisation is not system:nodes": groups != ["system:nodes"],
        f"asked for by {spec['username']}, not by the node itself": [spec["username"]] != common,
        "the asker is not in system:nodes": "system:nodes" not in spec.get("groups", []),
        f"usages {spec['usages']} are not the signer's": not _usages_right(spec),
    }
    for message, wrong in problems.items():
        if wrong:
            return Verdict(False, message)
    return _judge_names(spec["signerName"], names, node=common[0].removeprefix(_NODE), addresses=addresses)


def _judge_names(signer: str, names: dict[str, list[str]], *, node: str, addresses: Collection[str]) -> Verdict:
    if signer == CLIENT:
        return Verdict(not any(names.values()), "a client certificate has no alternative names")
    if names["other"]:
        return Verdict(False, f"alternative names of other kinds than DNS and IP: {names['other']}")
    if foreign := [ip for ip in names["ip"] if ip not in addresses]:
        return Verdict(False, f"addresses {foreign} are not {node}'s")
    if foreign := [name for name in names["dns"] if name != node]:
        return Verdict(False, f"names {foreign} are not {node}'s")
    return Verdict(bool(names["ip"] or names["dns"]), "a serving certificate of the node itself, for its own addresses")


def _usages_right(spec: Json) -> bool:
    needed = _USAGES[spec["signerName"]]
    usages = set(spec["usages"])
    return needed in usages and usages <= {"digital signature", "key encipherment", needed}


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


class Approver:
    """Watches one cluster's requests and answers the two signers' ones."""

    def __init__(self, api: Api, *, addresses: Path) -> None:
        self._api = api
        self._addresses = addresses

    def run(self) -> None:
        """Forever; whatever goes wrong with the API server is retried."""
        while True:
            try:
                self._once()
            except (OSError, http.client.HTTPException, StatusError, ValueError):
                time.sleep(_RETRY_SECONDS)

    def _once(self) -> None:
        listing = self._api.request("GET", _PATH)
        for item in listing["items"]:
            self._consider(item)
        version = listing["metadata"]["resourceVersion"]
        query = f"?watch=1&allowWatchBookmarks=true&timeoutSeconds=300&resourceVersion={version}"
        for event in self._api.watch(_PATH + query, timeout=310):
            if event["type"] == "ERROR":
                return
            if event["type"] in ("ADDED", "MODIFIED"):
                self._consider(event["object"])

    def _consider(self, request: Json) -> None:
        spec = request["spec"]
        if spec["signerName"] not in _USAGES or request.get("status", {}).get("conditions"):
            return
        known = nodes(self._addresses)
        if node_of(request) not in known:
            return
        verdict = judge(request, addresses=known.get(spec["username"].removeprefix(_NODE), []))
        condition = {
            "type": "Approved" if verdict.approved else "Denied",
            "status": "True",
            "reason": "LabApprover",
            "message": verdict.message,
        }
        name = request["metadata"]["name"]
        say(f"approver: {spec['signerName']} {name} of {spec['username']}: {condition['type']}: {verdict.message}")
        body: dict[str, Any] = {**request, "status": {"conditions": [condition]}}
        self._api.request("PUT", f"{_PATH}/{name}/approval", body=body)


def node_of(request: Json) -> str:
    """The node that a request is about; empty if it names none."""
    try:
        parsed = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"]))
        (common,) = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        return ""
    return str(common.value).removeprefix(_NODE)


def nodes(file: Path) -> dict[str, list[str]]:
    """The lab's nodes with the addresses that it gave them."""
    try:
        known: dict[str, list[str]] = json.loads(file.read_text())
    except FileNotFoundError:
        return {}
    return known


def run_all(approvers: list[Approver]) -> None:
    """Serve several clusters, forever."""
    threads = [threading.Thread(target=approver.run, daemon=True) for approver in approvers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
