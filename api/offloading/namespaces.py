"""NamespaceOffloading at the consumer, and NamespaceMap, what it asks of a managed provider."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from api.meta import Conditions, Duration, LabelSelector, rule
from api.offloading.common import MAPPING_RULES, Label, Mapping, Reflection, Rules
from kube.objects import Metadata

NAME = "offloading"
"""The only name that a NamespaceOffloading may have."""

PodStrategy = Literal["Local", "Remote", "LocalAndRemote"]


class ProviderLost(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What happens to pods whose provider cannot be reached any more."""

    RULES: ClassVar[Rules] = [
        rule(
            "!has(self.policy) || self.policy != 'Replace' || has(self.after)",
            "policy Replace needs after: say how long to wait, such as 10m",
        )
    ]

    policy: Annotated[
        Literal["Keep", "Replace"],
        Meta(
            description="Policy Keep leaves the pods as they are, for they may well run on; Replace deletes them after "
            "a while, so that their owners make others elsewhere."
        ),
    ] = "Keep"
    after: Annotated[
        Duration | None, Meta(description="After is how long the provider must be away before pods are replaced.")
    ] = None


class NamespaceOffloadingSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a user wants of an offloaded namespace."""

    RULES: ClassVar[Rules] = MAPPING_RULES

    pod_strategy: Annotated[
        PodStrategy,
        Meta(
            description="PodStrategy says where new pods of the namespace may run: on ordinary nodes only (Local), on "
            "virtual nodes only (Remote), or on both."
        ),
    ] = "LocalAndRemote"
    namespace_mapping: Annotated[
        Mapping,
        Meta(
            description="NamespaceMapping says how the namespace is called at the provider: its name and the "
            "consumer's id (DefaultName), its name alone (EnforceSameName), or remoteNamespace (SelectedName)."
        ),
    ] = "DefaultName"
    remote_namespace: Annotated[
        Label | None, Meta(description="RemoteNamespace is the namespace's name at the provider under SelectedName.")
    ] = None
    virtual_node_selector: Annotated[
        LabelSelector | None,
        Meta(description="VirtualNodeSelector selects by their labels the virtual nodes to use; absent, all are."),
    ] = None
    reflection: Reflection = {}
    service_account_tokens: Annotated[
        bool,
        Meta(
            description="ServiceAccountTokens lets tokens for this cluster's API server, bound to one pod and short-"
            "lived, be given to pods at the provider."
        ),
    ] = False
    provider_lost: Annotated[
        ProviderLost | None,
        Meta(description="ProviderLost says what happens to pods whose provider is away; absent, they are kept."),
    ] = None


class ObjectProblem(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Why an object of the namespace is not, or not wholly, at a provider."""

    resource: Annotated[str, Meta(description="Resource is the plural name of the object's kind, with its group.")]
    name: Annotated[str, Meta(description="Name is the object's name here; empty if it is about the whole kind.")] = ""
    reason: Annotated[str, Meta(description="Reason is one word in CamelCase for why it is so.")]
    message: Annotated[str, Meta(description="Message says in full why it is so and what to do about it.")] = ""


class ProviderStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How one provider has the namespace."""

    provider: Annotated[str, Meta(description="Provider is the short name of the provider cluster.")]
    namespace: Annotated[str, Meta(description="Namespace is the namespace's name there.")] = ""
    ready: Annotated[bool, Meta(description="Ready tells whether pods of the namespace can run there.")] = False
    reason: Annotated[str, Meta(description="Reason is one word in CamelCase for why it is so.")] = ""
    message: Annotated[str, Meta(description="Message says in full why it is so and what to do about it.")] = ""
    problems: Annotated[
        tuple[ObjectProblem, ...],
        Meta(
            description="Problems tell which objects of the namespace are not, or not wholly, at the provider; the "
            "first ten.",
            extra_json_schema={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()
    problem_count: Annotated[int, Meta(description="ProblemCount is how many problems there are in all.")] = 0


class NamespaceOffloadingStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What is the case with an offloaded namespace."""

    observed_generation: Annotated[
        int, Meta(description="ObservedGeneration is the generation that the status speaks of.")
    ] = 0
    conditions: Conditions = ()
    providers: Annotated[
        tuple[ProviderStatus, ...],
        Meta(
            description="Providers tell for each provider whether the namespace is ready there.",
            extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["provider"]},
        ),
    ] = ()


class NamespaceOffloading(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """NamespaceOffloading lets the pods of its namespace run in other clusters."""

    RULES: ClassVar[Rules] = [
        rule(
            "self.metadata.name == 'offloading'",
            "a NamespaceOffloading must be named offloading: there is one in a namespace",
        )
    ]

    metadata: Metadata = Metadata()
    spec: NamespaceOffloadingSpec = NamespaceOffloadingSpec()
    status: NamespaceOffloadingStatus = NamespaceOffloadingStatus()


class NamespaceMapSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a consumer asks for one of its namespaces."""

    RULES: ClassVar[Rules] = MAPPING_RULES

    namespace_mapping: Annotated[
        Mapping,
        Meta(description="NamespaceMapping says how the namespace is to be called here, as in NamespaceOffloading."),
    ] = "DefaultName"
    remote_namespace: Annotated[
        Label | None, Meta(description="RemoteNamespace is the name that is asked for under SelectedName.")
    ] = None


class NamespaceMapStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What the provider made of it."""

    observed_generation: Annotated[
        int, Meta(description="ObservedGeneration is the generation that the status speaks of.")
    ] = 0
    conditions: Conditions = ()
    namespace: Annotated[str, Meta(description="Namespace is the namespace that was made for it.")] = ""


class NamespaceMap(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """NamespaceMap asks the provider for a namespace that stands for the consumer's namespace of this object's name."""

    metadata: Metadata = Metadata()
    spec: NamespaceMapSpec = NamespaceMapSpec()
    status: NamespaceMapStatus = NamespaceMapStatus()
