"""Identity: who we are at a provider, and how it is reached."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from api.authentication.common import MAX_ID, CredentialType, Label, Name, Pem, Rules
from api.meta import DNS_LABEL, Conditions, rule
from kube.objects import Metadata

Method = Literal["Exchange", "Kubeconfig"]


class SecretEntry(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One entry of a Secret in the namespace where isthmus runs."""

    name: Annotated[Name, Meta(description="Name is the Secret's name in the namespace where isthmus runs.")]
    key: Annotated[Annotated[str, Meta(max_length=253)], Meta(description="Key is the entry of the Secret.")] = (
        "kubeconfig"
    )


class IdentitySpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How a provider is reached. In an exchange it is empty at first: the provider's manifest fills it."""

    RULES: ClassVar[Rules] = [
        rule(
            "!has(self.method) || self.method == oldSelf.method",
            "method cannot be changed: make a new Identity and delete this one",
        ),
        rule(
            "!has(self.method) || (self.method == 'Exchange') == !has(self.secret)",
            "secret is needed by the method Kubeconfig, and not used by Exchange",
        ),
        rule(
            "!has(self.server) || has(self.caBundle)",
            "server needs caBundle: the certificate authority of the provider is pinned",
        ),
        rule(
            "!has(self.invitation) || (has(self.server) && (!has(self.method) || self.method == 'Exchange'))",
            "invitation needs server and caBundle, as the provider's manifest has them",
        ),
        rule(
            "!has(self.method) || self.method != 'Kubeconfig' || !has(self.server)",
            "with the method Kubeconfig the Secret says which server it is",
        ),
    ]

    method: Annotated[
        Method,
        Meta(
            description="Method is how the two came to know each other: by exchanging files, or by a kubeconfig "
            "that somebody else made and renews."
        ),
    ] = "Exchange"
    server: Annotated[
        Annotated[
            str,
            Meta(
                max_length=512,
                extra_json_schema={
                    "x-kubernetes-validations": [
                        rule("isURL(self) && url(self).getScheme() == 'https'", "server must be an https:// URL")
                    ]
                },
            ),
        ]
        | None,
        Meta(description="Server is the URL of the provider's API server."),
    ] = None
    ca_bundle: Annotated[
        Pem | None,
        Meta(description="CABundle are the certificate authorities, PEM, of which one must vouch for the server."),
    ] = msgspec.field(name="caBundle", default=None)
    provider_id: Annotated[
        str | None, Meta(description="ProviderID is the UID of the provider's namespace kube-system.")
    ] = msgspec.field(name="providerID", default=None)
    namespace: Annotated[
        Label | None, Meta(description="Namespace is where our own objects of isthmus are kept at the provider.")
    ] = None
    credential: Annotated[
        CredentialType | None, Meta(description="Credential says whether the provider gives certificates or tokens.")
    ] = None
    certificate: Annotated[
        Pem | None,
        Meta(description="Certificate lets us in for the first time; the key that it is for is in our Secret."),
    ] = None
    sealed_token: Annotated[
        Annotated[str, Meta(max_length=16384)] | None,
        Meta(description="SealedToken lets us in for the first time; only our key opens it."),
    ] = None
    invitation: Annotated[
        SecretEntry | None,
        Meta(description="Invitation is the Secret with the token by which a provider invites us: it is good once."),
    ] = None
    secret: Annotated[
        SecretEntry | None,
        Meta(description="Secret holds the kubeconfig that was given to us."),
    ] = None


class IdentityStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What is the case with an identity."""

    observed_generation: Annotated[
        int, Meta(description="ObservedGeneration is the generation that the status speaks of.")
    ] = 0
    conditions: Conditions = ()
    tenant: Annotated[
        str, Meta(description="Tenant is the manifest that the provider has to apply, without any secret.")
    ] = ""
    key: Annotated[str, Meta(description="Key is the digest of our public key.")] = ""
    user: Annotated[str, Meta(description="User is who we are to the provider's API server.")] = ""
    kubeconfig_secret: Annotated[
        str, Meta(description="KubeconfigSecret is the Secret that VirtualNodes of this provider use.")
    ] = ""
    renewed: Annotated[str, Meta(description="Renewed is when the credential was issued that is in use.")] = ""
    expires: Annotated[str, Meta(description="Expires is when the credential ends that is in use.")] = ""


class Identity(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Identity is who this cluster is at a provider, and yields the kubeconfig that VirtualNodes use."""

    RULES: ClassVar[Rules] = [
        rule(
            f"self.metadata.name.size() <= {MAX_ID} && self.metadata.name.matches('{DNS_LABEL}')",
            f"an Identity has the provider's short name: lower case letters, digits and -, at most {MAX_ID}",
        )
    ]

    metadata: Metadata = Metadata()
    spec: IdentitySpec = IdentitySpec()
    status: IdentityStatus = IdentityStatus()
