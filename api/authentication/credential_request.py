"""CredentialRequest: how a consumer that is let in comes by its next credential."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from api.authentication.common import Pem, Rules, SignedRequest
from api.meta import Conditions, rule
from kube.objects import Metadata


class JoinRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a consumer that was invited says of itself."""

    consumer_id: Annotated[
        Annotated[str, Meta(max_length=63)], Meta(description="ConsumerID is the short name of the consumer.")
    ] = msgspec.field(name="consumerID")
    cluster_id: Annotated[
        Annotated[str, Meta(max_length=63)], Meta(description="ClusterID is the UID of its namespace kube-system.")
    ] = msgspec.field(name="clusterID")
    public_key: Annotated[Pem, Meta(description="PublicKey is the consumer's key, PEM.")]
    request: Annotated[SignedRequest, Meta(description="Request is what the consumer signed, as in a Tenant.")]


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
    join: Annotated[
        JoinRequest | None, Meta(description="Join asks for a Tenant, where the asker was invited to have one.")
    ] = None


class CredentialRequestStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What the provider answered."""

    conditions: Conditions = ()
    certificate: Annotated[str, Meta(description="Certificate is what was issued, PEM.")] = ""
    sealed_token: Annotated[str, Meta(description="SealedToken is a token that only the asker's key opens.")] = ""
    expires: Annotated[str, Meta(description="Expires is when that ends.")] = ""
    identity: Annotated[str, Meta(description="Identity is the manifest for one that was invited.")] = ""


class CredentialRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """CredentialRequest asks the provider for the consumer's next credential."""

    metadata: Metadata = Metadata()
    spec: CredentialRequestSpec
    status: CredentialRequestStatus = CredentialRequestStatus()
