"""VirtualNode: capacity of a provider cluster as a Node."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from api.meta import DNS_SUBDOMAIN, QUALIFIED_NAME, Conditions, Duration, Quantity, rule
from api.offloading.common import Label, Labels, Name, Reflection, Rules, same
from kube.objects import Metadata

Mode = Literal["Direct", "Managed"]
Effect = Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class SecretKey(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One key of a Secret in isthmus' own namespace."""

    name: Annotated[Name, Meta(description="Name is the Secret's name in the namespace where isthmus runs.")]
    key: Annotated[
        str, Meta(description="Key is the entry of the Secret that holds the kubeconfig.", max_length=253)
    ] = "kubeconfig"


class Taint(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """v1.Taint without its time."""

    key: Annotated[str, Meta(description="Key is the taint's name.", min_length=1, max_length=317)]
    effect: Annotated[Effect, Meta(description="Effect says what happens to pods that do not tolerate the taint.")]
    value: Annotated[
        str, Meta(description="Value is compared by tolerations with the operator Equal.", max_length=63)
    ] = ""


class ClassPair(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One class of the consumer and what it is called at the provider."""

    consumer: Annotated[Name, Meta(description="Consumer is the name of the class in this cluster.")]
    provider: Annotated[Name, Meta(description="Provider is the name of the class that stands for it at the provider.")]


class LoadBalancerPair(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One class of load balancers and what it is called at the provider."""

    consumer: Annotated[
        str,
        Meta(
            description="Consumer is the name of the class in this cluster, such as example.com/lb.",
            pattern=QUALIFIED_NAME,
            max_length=317,
        ),
    ]
    provider: Annotated[
        str,
        Meta(
            description="Provider is the name of the class that stands for it at the provider; absent, it is the "
            "provider's own choice.",
            pattern=QUALIFIED_NAME,
            max_length=317,
        ),
    ] = ""


class Classes(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Which classes of the provider stand for which of the consumer's; a class that is not listed does not cross."""

    storage: Annotated[
        tuple[ClassPair, ...], Meta(description="Storage are StorageClasses that volumes may be made of.")
    ] = ()
    ingress: Annotated[
        tuple[ClassPair, ...], Meta(description="Ingress are IngressClasses that Ingresses may name.")
    ] = ()
    load_balancer: Annotated[
        tuple[LoadBalancerPair, ...],
        Meta(description="LoadBalancer are classes that Services of type LoadBalancer may name."),
    ] = ()


class NameService(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """DNS servers at the provider that know the names of this cluster, as `isthmus dns` does."""

    RULES: ClassVar[Rules] = [rule("self.servers.all(address, isIP(address))", "servers must be IP addresses")]

    servers: Annotated[
        tuple[Annotated[str, Meta(max_length=45)], ...],
        Meta(
            description="Servers are IP addresses, as of the Service of deploy/dns; pods ask them in this order.",
            min_length=1,
            max_length=3,
        ),
    ]
    domain: Annotated[Name, Meta(description="Domain is the DNS domain of this cluster.")] = "cluster.local"


class VirtualNodeSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a user wants of a virtual node."""

    RULES: ClassVar[Rules] = [
        same("nodeName", "nodeName cannot be changed: make a new VirtualNode and delete this one"),
        same("provider", "provider cannot be changed: make a new VirtualNode and delete this one"),
        same("mode", "mode cannot be changed: make a new VirtualNode and delete this one"),
    ]

    provider: Annotated[
        Label,
        Meta(
            description="Provider is the short name of the provider cluster; VirtualNodes with the same one share what "
            "is reflected for whole namespaces."
        ),
    ]
    kubeconfig_secret: Annotated[
        SecretKey, Meta(description="KubeconfigSecret holds the kubeconfig with which the provider is reached.")
    ]
    node_name: Annotated[
        Annotated[str, Meta(pattern=DNS_SUBDOMAIN, max_length=63)],
        Meta(description="NodeName is the name of the Node; absent, it is the name of this object."),
    ] = ""
    mode: Annotated[
        Mode,
        Meta(
            description="Mode says whether pods are created at the provider as they are (Direct), or asked for as "
            "ShadowPods that the provider's manager checks and turns into pods (Managed)."
        ),
    ] = "Direct"
    resources: Annotated[
        dict[str, Quantity],
        Meta(
            description="Resources are what the Node offers to pods, extended resources included; absent, it is what "
            "the provider's ResourceQuotas leave."
        ),
    ] = {}
    provider_nodes: Annotated[
        Literal["Ignore", "Watch", "Offer"],
        Meta(
            description="ProviderNodes says whether the provider's nodes are looked at, for which nodes and pods must "
            "be readable there: Watch tells the freest node, Offer also makes what all selected nodes have "
            "left the resources of the Node, at most those given."
        ),
    ] = "Ignore"
    quota_namespaces: Annotated[
        tuple[Label, ...],
        Meta(
            description="QuotaNamespaces are the provider's namespaces whose ResourceQuotas limit the Node besides "
            "its resources; absent, with resources given, none does."
        ),
    ] = ()
    node_selector: Annotated[
        Labels,
        Meta(
            description="NodeSelector selects the provider's nodes that this virtual node stands for; every pod gets "
            "it at the provider."
        ),
    ] = {}
    labels: Annotated[Labels, Meta(description="Labels are put on the Node.")] = {}
    taints: Annotated[
        tuple[Taint, ...],
        Meta(
            description="Taints are put on the Node; absent, it is virtual-kubelet.io/provider=isthmus:NoSchedule.",
            extra_json_schema={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()
    classes: Annotated[
        Classes | None, Meta(description="Classes say which classes of the provider stand for which of this cluster's.")
    ] = None
    api_server: Annotated[
        str,
        Meta(
            description="APIServer is host:port at which pods at the provider reach this cluster's API server; absent, "
            "no service account tokens go there.",
            max_length=262,
            extra_json_schema={
                "x-kubernetes-validations": [rule("self.matches('^.+:[0-9]+$')", "apiServer must be host:port")]
            },
        ),
    ] = msgspec.field(name="apiServer", default="")
    dns: Annotated[
        NameService | None,
        Meta(
            description="DNS says who answers pods at the provider under the names of this cluster; absent, the "
            "provider's own DNS does, which finds short names, and longer ones of namespaces called the same there."
        ),
    ] = None
    pending_timeout: Annotated[
        Duration | None,
        Meta(
            description="PendingTimeout is how long a pod may wait at the provider for a place before it is evicted "
            "here, so that it is scheduled anew; absent, it waits for ever."
        ),
    ] = None
    drain_timeout: Annotated[
        Duration | None,
        Meta(
            description="DrainTimeout is how long the removal of this object waits for evictions before it deletes the "
            "pods that are left; absent, it waits for ever."
        ),
    ] = None
    reflection: Reflection = {}


class Drain(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How far the removal of a VirtualNode is."""

    total: Annotated[int, Meta(description="Total is how many pods were there when it began.")] = 0
    evicted: Annotated[int, Meta(description="Evicted is how many have been evicted or are gone.")] = 0
    remaining: Annotated[int, Meta(description="Remaining is how many are still there.")] = 0
    blocked: Annotated[
        tuple[str, ...], Meta(description="Blocked are pods that cannot be evicted now, each with the reason.")
    ] = ()


class VirtualNodeStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What is the case with a virtual node."""

    observed_generation: Annotated[
        int, Meta(description="ObservedGeneration is the generation that the status speaks of.")
    ] = 0
    conditions: Conditions = ()
    node_name: Annotated[str, Meta(description="NodeName is the name of the Node.")] = ""
    allocatable: Annotated[dict[str, Quantity], Meta(description="Allocatable is what the Node offers now.")] = {}
    largest_node: Annotated[
        dict[str, Quantity],
        Meta(description="LargestNode is what the provider's emptiest node has free: no single pod can have more."),
    ] = {}
    pods: Annotated[int, Meta(description="Pods is how many pods are on the Node.")] = 0
    drain: Annotated[Drain | None, Meta(description="Drain is how far the removal is, once it began.")] = None


class VirtualNode(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """VirtualNode makes capacity of a provider cluster a Node of this one."""

    metadata: Metadata = Metadata()
    spec: VirtualNodeSpec
    status: VirtualNodeStatus = VirtualNodeStatus()

    @property
    def node(self) -> str:
        """The name of its Node."""
        return self.spec.node_name or self.metadata.name
