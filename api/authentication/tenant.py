"""Tenant: a consumer as the provider sees it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from api.authentication.common import (
    MAX_ID,
    Amounts,
    CredentialType,
    Label,
    Labels,
    Name,
    Pem,
    Rules,
    ShortName,
    SignedRequest,
    Time,
)
from api.meta import DNS_LABEL, Conditions, rule
from kube.objects import Metadata

State = Literal["Active", "Cordoned", "Drained"]
Level = Literal["privileged", "baseline", "restricted"]


class Invitation(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An open door for one consumer, for a short time."""

    expires: Annotated[Time, Meta(description="Expires is when nobody is let in by it any more; let it be soon.")]
    identity: Annotated[
        ShortName, Meta(description="Identity is how the consumer's Identity is called: its name of this provider.")
    ] = "provider"


class TenantSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Who a consumer is and what it may have."""

    RULES: ClassVar[Rules] = [
        rule(
            "has(self.clusterID) == has(self.publicKey) && has(self.clusterID) == has(self.request)",
            "clusterID, publicKey and request belong together: the consumer's manifest has all of them",
        ),
        rule(
            "has(self.request) || has(self.invitation)",
            "request is needed: apply the manifest that the consumer made, or say spec.invitation",
        ),
        rule(
            "!has(oldSelf.clusterID) || (has(self.clusterID) && self.clusterID == oldSelf.clusterID)",
            "clusterID cannot be changed: another cluster asks under the id of this one; let it choose another id, or "
            "remove this Tenant first",
        ),
        rule(
            "self.credential == oldSelf.credential",
            "credential cannot be changed: remove this Tenant and apply it anew",
        ),
    ]

    cluster_id: Annotated[
        Annotated[str, Meta(pattern="^[0-9a-f-]{36}$", max_length=36)] | None,
        Meta(description="ClusterID is the UID of the consumer's namespace kube-system."),
    ] = msgspec.field(name="clusterID", default=None)
    public_key: Annotated[
        Pem | None, Meta(description="PublicKey is the consumer's, PEM; whoever has its private key is this consumer.")
    ] = None
    request: Annotated[
        SignedRequest | None, Meta(description="Request is what the consumer signed; a new one replaces it as a whole.")
    ] = None
    invitation: Annotated[
        Invitation | None,
        Meta(
            description="Invitation lets whoever has a token of the service account in status.invited become this "
            "tenant, once; its cluster, key and request are filled in then."
        ),
    ] = None
    state: Annotated[
        State,
        Meta(
            description="State Active lets the consumer in; Cordoned leaves what it has and grants nothing new; "
            "Drained takes its rights and pods, and its credentials are never good again."
        ),
    ] = "Active"
    credential: Annotated[
        CredentialType,
        Meta(
            description="Credential says how the consumer is let in: by certificates of this cluster's signer, or, "
            "where there is none, by tokens of a service account, sealed for the consumer's key."
        ),
    ] = "Certificate"
    resources: Annotated[
        Amounts,
        Meta(
            description="Resources are what all pods of the consumer together may request, and with limits.cpu and the "
            "like be limited to; what is not named is not limited. It is held exactly."
        ),
    ] = {}
    classes: Annotated[
        tuple[Label, ...],
        Meta(
            description="Classes are those of ResourceSlices that the consumer may ask for. If there are some, its "
            "pods may request what its slices grant and nothing else; absent, it has no slices, and resources alone "
            "limit it."
        ),
    ] = ()
    node_selector: Annotated[
        Labels, Meta(description="NodeSelector selects the nodes that the consumer's pods may run on; absent, all.")
    ] = {}
    pod_security: Annotated[
        Level, Meta(description="PodSecurity is the pod security level of the namespaces that the consumer gets.")
    ] = "baseline"
    namespaces: Annotated[
        tuple[Annotated[str, Meta(max_length=63)], ...],
        Meta(
            description="Namespaces are patterns, with * for any text, of what the consumer's namespaces may be called "
            "here; absent, whatever is not reserved."
        ),
    ] = ()
    runtime_classes: Annotated[
        tuple[Name, ...], Meta(description="RuntimeClasses are those that the consumer's pods may name.")
    ] = ()
    priority_classes: Annotated[
        tuple[Name, ...], Meta(description="PriorityClasses are those that the consumer's pods may name.")
    ] = ()
    priority_level: Annotated[
        Name | None,
        Meta(
            description="PriorityLevel is the PriorityLevelConfiguration that the consumer's requests go through, made "
            "by the administrator to say how many are served at a time and may wait; absent, the one of all tenants, "
            "isthmus-tenants. One that is not there (condition Dangling of the FlowSchema isthmus-tenant-<id>) "
            "leaves the requests among those of everybody."
        ),
    ] = None
    storage_classes: Annotated[
        tuple[Name, ...] | None,
        Meta(
            description="StorageClasses are those that the consumer's claims may name, the cluster's default among "
            "them; absent, any; empty, the consumer has no volumes."
        ),
    ] = None
    ingress_classes: Annotated[
        tuple[Name, ...] | None,
        Meta(
            description="IngressClasses are those that the consumer's Ingresses may name; absent, any; empty, it has "
            "no Ingresses."
        ),
    ] = None
    load_balancer_classes: Annotated[
        tuple[Name, ...] | None,
        Meta(
            description="LoadBalancerClasses are those that the consumer's Services of type LoadBalancer may name, as "
            "spec.loadBalancerClass; absent, any; empty, it has no load balancers."
        ),
    ] = None


class TenantStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What is the case with a consumer."""

    observed_generation: Annotated[
        int, Meta(description="ObservedGeneration is the generation that the status speaks of.")
    ] = 0
    conditions: Conditions = ()
    namespace: Annotated[
        str, Meta(description="Namespace is where the consumer's own objects of isthmus are kept here.")
    ] = ""
    invited: Annotated[str, Meta(description="Invited is the service account that an open invitation is for.")] = ""
    user: Annotated[
        str, Meta(description="User is who the consumer is to the API server; its rights are bound to it.")
    ] = ""
    epoch: Annotated[
        int, Meta(description="Epoch counts how often the consumer was drained; each has a user name of its own.")
    ] = 0
    key: Annotated[str, Meta(description="Key is the digest of the public key that was accepted last.")] = ""
    retired_keys: Annotated[
        tuple[str, ...], Meta(description="RetiredKeys are digests of keys that were replaced and are refused.")
    ] = ()
    nonces: Annotated[
        tuple[str, ...], Meta(description="Nonces are those of the requests that were accepted last.")
    ] = ()
    requested_at: Annotated[str, Meta(description="RequestedAt is the time of the request that was accepted last.")] = (
        ""
    )
    expires: Annotated[
        str, Meta(description="Expires is when the credential in the identity ends that was issued last.")
    ] = ""
    renew_after: Annotated[
        str, Meta(description="RenewAfter is when the credential in the identity will be issued anew.")
    ] = ""
    identity: Annotated[
        str, Meta(description="Identity is the manifest that the consumer has to apply, without any secret.")
    ] = ""


class Tenant(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Tenant lets another cluster, named by its id, borrow capacity of this one."""

    RULES: ClassVar[Rules] = [
        rule(
            f"self.metadata.name.size() <= {MAX_ID} && self.metadata.name.matches('{DNS_LABEL}')",
            f"a Tenant is named by the consumer's id: lower case letters, digits and -, at most {MAX_ID}",
        )
    ]

    metadata: Metadata = Metadata()
    spec: TenantSpec
    status: TenantStatus = TenantStatus()

    @property
    def consumer_id(self) -> str:
        """The consumer's id."""
        return self.metadata.name
