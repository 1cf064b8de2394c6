"""CredentialRequest: how a consumer that is let in comes by its next credential."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from api.authentication.common import Pem, Rules
from api.meta import Conditions, rule
from kube.objects import Metadata


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


class CredentialRequestStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What the provider answered."""

    conditions: Conditions = ()
    certificate: Annotated[str, Meta(description="Certificate is what was issued, PEM.")] = ""
    sealed_token: Annotated[str, Meta(description="SealedToken is a token that only the asker's key opens.")] = ""
    expires: Annotated[str, Meta(description="Expires is when that ends.")] = ""


class CredentialRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """CredentialRequest asks the provider for the consumer's next credential."""

    metadata: Metadata = Metadata()
    spec: CredentialRequestSpec
    status: CredentialRequestStatus = CredentialRequestStatus()
