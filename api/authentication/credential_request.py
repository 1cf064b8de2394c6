"""CredentialRequest: how a consumer that is let in comes by its next credential."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from api.authentication.common import Pem, Rules, SignedRequest
from api.meta import Conditions, rule
from kube.objects import Metadata


class PeeringRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a Tenant holds of its consumer."""

    cluster_id: Annotated[
        Annotated[str, Meta(pattern="^[0-9a-f-]{36}$", max_length=36)],
        Meta(description="ClusterID is the UID of the consumer's namespace kube-system."),
    ] = msgspec.field(name="clusterID")
    public_key: Annotated[Pem, Meta(description="PublicKey is the consumer's, PEM.")]
    request: Annotated[SignedRequest, Meta(description="Request is what the consumer signed.")]


class CredentialRequestSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What is asked for. It cannot be changed."""

    RULES: ClassVar[Rules] = [rule("self == oldSelf", "a request cannot be changed: make another one")]

    certificate_request: Annotated[
        Pem,
        Meta(
            description="CertificateRequest is a PKCS#10 request, PEM, for the user of the Tenant; a token needs one "
            "too, to be sealed for its key."
        ),
    ] = ""
    signature: Annotated[
        Annotated[str, Meta(max_length=1024)],
        Meta(description="Signature is by the consumer's key over the request and the user, base64."),
    ] = ""
    peering: Annotated[
        PeeringRequest | None,
        Meta(description="Peering is given by one who was invited, instead of the others."),
    ] = None


class CredentialRequestStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What the provider answered."""

    conditions: Conditions = ()
    certificate: Annotated[str, Meta(description="Certificate is what was issued, PEM.")] = ""
    sealed_token: Annotated[str, Meta(description="SealedToken is a token that only the asker's key opens.")] = ""
    expires: Annotated[str, Meta(description="Expires is when that ends.")] = ""
    identity: Annotated[
        str, Meta(description="Identity is the manifest for one who was invited, without any secret.")
    ] = ""


class CredentialRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """CredentialRequest asks the provider for the consumer's next credential."""

    metadata: Metadata = Metadata()
    spec: CredentialRequestSpec
    status: CredentialRequestStatus = CredentialRequestStatus()
