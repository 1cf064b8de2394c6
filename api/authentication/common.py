"""What the objects of this group share: their group, the patterns of names, keys and requests, and slices' amounts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from api.meta import DNS_LABEL, DNS_SUBDOMAIN, Quantity

GROUP = "authentication.isthmus.dev"
VERSION = "v1alpha1"

MAX_ID = 40
"""Characters of a consumer's id: names are made of it that have to fit 63."""

Rules = list[dict[str, Any]]
"""CEL validations of a type, in its RULES."""
Name = Annotated[str, Meta(pattern=DNS_SUBDOMAIN, max_length=253)]
Label = Annotated[str, Meta(pattern=DNS_LABEL, max_length=63)]
ShortName = Annotated[str, Meta(pattern=DNS_LABEL, max_length=MAX_ID)]
Labels = dict[str, Annotated[str, Meta(max_length=63)]]
Amounts = dict[str, Quantity]
"""Resources by their name."""
Pem = Annotated[str, Meta(max_length=16384)]
Time = Annotated[str, Meta(max_length=32, extra_json_schema={"format": "date-time"})]
CredentialType = Literal["Certificate", "Token"]


class SignedRequest(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a consumer signs to show that it has the key and means this very peering."""

    identity: Annotated[
        ShortName, Meta(description="Identity is the name of the Identity at the consumer that waits for the answer.")
    ]
    nonce: Annotated[
        Annotated[str, Meta(pattern="^[0-9a-f]{32}$", max_length=32)],
        Meta(description="Nonce is random and used for one request only."),
    ]
    issued_at: Annotated[Time, Meta(description="IssuedAt is when the consumer made the request, by its own clock.")]
    certificate_request: Annotated[
        Pem,
        Meta(description="CertificateRequest is a PKCS#10 request, PEM, for the certificate with which to come back."),
    ]
    signature: Annotated[
        Annotated[str, Meta(max_length=1024)],
        Meta(description="Signature is by the consumer's key over all of this and the ids of both, base64."),
    ]
