"""The approver's judgement: one thing wrong is enough to be turned down."""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.lab.approver import CLIENT, SERVING, judge

ADDRESSES = ["198.18.0.101"]


@dataclass(frozen=True)
class Asked:
    """What a request says; as is, it is in order."""

    common: str = "system:node:virtual"
    organisations: tuple[str, ...] = ("system:nodes",)
    ips: tuple[str, ...] = ("198.18.0.101",)
    names: tuple[str, ...] = ("virtual",)
    uris: tuple[str, ...] = ()
    username: str = "system:node:virtual"
    groups: tuple[str, ...] = ("system:nodes", "system:authenticated")
    usages: tuple[str, ...] = ("digital signature", "server auth")
    signer: str = SERVING

    def request(self) -> dict[str, Any]:
        subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in self.organisations]
        subject.append(x509.NameAttribute(NameOID.COMMON_NAME, self.common))
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
        alternative: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(ip)) for ip in self.ips]
        alternative += [x509.DNSName(name) for name in self.names]
        alternative += [x509.UniformResourceIdentifier(uri) for uri in self.uris]
        if alternative:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
        signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        spec = {
            "request": base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode(),
            "signerName": self.signer,
            "username": self.username,
            "groups": list(self.groups),
            "usages": list(self.usages),
        }
        return {"spec": spec}


GOOD = Asked()
GOOD_CLIENT = Asked(signer=CLIENT, usages=("client auth", "digital signature"), ips=(), names=())


@pytest.mark.parametrize(
    "asked",
    [
        GOOD,
        replace(GOOD, names=()),
        replace(GOOD, usages=("digital signature", "key encipherment", "server auth")),
        GOOD_CLIENT,
    ],
)
def test_a_request_in_order_is_approved(asked: Asked) -> None:
    verdict = judge(asked.request(), addresses=ADDRESSES)
    assert verdict.approved, verdict.message


@pytest.mark.parametrize(
    "asked",
    [
        replace(GOOD, common="system:node:other"),
        replace(GOOD, common="virtual", username="virtual"),
        replace(GOOD, organisations=("system:masters",)),
        replace(GOOD, organisations=("system:nodes", "system:masters")),
        replace(GOOD, username="somebody"),
        replace(GOOD, groups=("system:authenticated",)),
        replace(GOOD, usages=("digital signature", "client auth")),
        replace(GOOD, usages=("digital signature", "server auth", "client auth")),
        replace(GOOD, ips=("198.18.0.11",)),
        replace(GOOD, ips=("198.18.0.101", "127.0.0.1")),
        replace(GOOD, names=("kubernetes.default.svc",)),
        replace(GOOD, uris=("spiffe://lab/x",)),
        replace(GOOD, ips=(), names=()),
        replace(GOOD_CLIENT, names=("virtual",)),
        replace(GOOD_CLIENT, usages=("server auth", "digital signature")),
    ],
)
def test_one_thing_wrong_is_denied_with_a_reason(asked: Asked) -> None:
    verdict = judge(asked.request(), addresses=ADDRESSES)
    assert not verdict.approved
    assert verdict.message


def test_rubbish_is_denied() -> None:
    request = GOOD.request()
    request["spec"]["request"] = base64.b64encode(b"rubbish").decode()
    assert not judge(request, addresses=ADDRESSES).approved


def test_a_node_that_the_lab_does_not_know_gets_no_serving_certificate() -> None:
    assert not judge(GOOD.request(), addresses=[]).approved
