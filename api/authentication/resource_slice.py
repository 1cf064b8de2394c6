"""ResourceSlice: an amount of a provider's resources, asked for by a consumer and granted for a time."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from api.authentication.common import Amounts, Label, Labels, Rules, ShortName, Time
from api.meta import DNS_LABEL, Conditions, Duration, rule
from api.offloading.common import same
from api.offloading.virtual_node import Taint
from kube.objects import Metadata

GRANTED = "Granted"
"""The condition that says what became of it."""
DEFAULT_CLASS = "default"
"""Granted by the provider's manager from what its nodes have left."""
MANUAL_CLASS = "manual"
"""Decided by the provider's administrator."""
Renewal = Literal["Automatic", "Never"]
Verdict = Literal["Granted", "Denied"]
NEEDED = ("cpu", "memory", "pods")
"""Resources without which a node takes no pods."""


class SliceNode(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The VirtualNode that is made of a slice."""

    RULES: ClassVar[Rules] = [same("name", "name cannot be changed: make another slice")]

    name: Annotated[
        Annotated[str, Meta(pattern=DNS_LABEL, max_length=63)] | None,
        Meta(description="Name is the VirtualNode's; absent, it is the slice's."),
    ] = None
    labels: Annotated[Labels, Meta(description="Labels are put on the Node.")] = {}
    taints: Annotated[
        tuple[Taint, ...],
        Meta(
            description="Taints are put on the Node; absent, it is virtual-kubelet.io/provider=isthmus:NoSchedule.",
            extra_json_schema={"x-kubernetes-list-type": "atomic"},
        ),
    ] = ()


class ResourceSliceSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What is asked for."""

    RULES: ClassVar[Rules] = [
        rule("self.identity == oldSelf.identity", "identity cannot be changed: make another slice"),
        rule("self.class == oldSelf.class", "class cannot be changed: make another slice"),
        rule(
            " && ".join(f"'{name}' in self.resources" for name in NEEDED),
            "resources must name cpu, memory and pods: a node takes no pods without them",
        ),
    ]

    identity: Annotated[
        ShortName, Meta(description="Identity is the name of the Identity at the provider that is asked.")
    ]
    resources: Annotated[
        Amounts,
        Meta(
            description="Resources are what is asked for, as pods request them; the provider may grant less.",
            extra_json_schema={"maxProperties": 64},
        ),
    ]
    class_: Annotated[
        Label,
        Meta(
            description="Class says who decides at the provider: `default` its manager by what the nodes have left, "
            "`manual` its administrator, any other a controller of the provider's."
        ),
    ] = msgspec.field(name="class", default=DEFAULT_CLASS)
    duration: Annotated[
        Duration | None,
        Meta(description="Duration is how long the grant holds unless it is renewed; absent, until the slice goes."),
    ] = None
    renewal: Annotated[
        Renewal, Meta(description="Renewal says whether the grant is asked for anew when two thirds of it are over.")
    ] = "Automatic"
    node_selector: Annotated[
        Labels, Meta(description="NodeSelector selects the provider's nodes of which the resources are to be.")
    ] = {}
    virtual_node: Annotated[
        SliceNode | None,
        Meta(description="VirtualNode says how the VirtualNode is that is made with what is granted; absent, none is."),
    ] = None
    renew_time: Annotated[
        Time | None,
        Meta(
            description="RenewTime is set in the provider's copy by the consumer's manager, which asks for another "
            "duration by changing it."
        ),
    ] = None


class Decision(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What whoever decides about slices of a class at the provider says; never set for the class `default`."""

    RULES: ClassVar[Rules] = [
        rule(
            "self.verdict != 'Granted' || (has(self.resources) && size(self.resources) > 0)",
            "the verdict Granted needs resources: how much of what is asked is granted",
        ),
    ]

    verdict: Annotated[Verdict, Meta(description="Verdict is the decision.")]
    resources: Annotated[
        Amounts,
        Meta(
            description="Resources are what may be used at most; more than is asked is never granted.",
            extra_json_schema={"maxProperties": 64},
        ),
    ] = {}
    message: Annotated[
        Annotated[str, Meta(max_length=1024)], Meta(description="Message tells the consumer why it is so.")
    ] = ""


class ResourceSliceStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What became of it."""

    observed_generation: Annotated[
        int, Meta(description="ObservedGeneration is the generation that the status speaks of.")
    ] = 0
    conditions: Conditions = ()
    decision: Annotated[
        Decision | None,
        Meta(description="Decision is made at the provider, for classes other than `default`, by whoever decides."),
    ] = None
    granted: Annotated[Amounts, Meta(description="Granted is what may be used now.")] = {}
    expires: Annotated[
        str, Meta(description="Expires is when the grant ends unless it is renewed, by the provider's clock.")
    ] = ""
    renewed: Annotated[str, Meta(description="Renewed is the renewTime that was answered last.")] = ""
    virtual_node: Annotated[str, Meta(description="VirtualNode is the name of the one that was made of it.")] = ""


class ResourceSlice(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """ResourceSlice asks a provider for an amount of its resources, and tells what was granted and until when."""

    RULES: ClassVar[Rules] = [
        rule(
            f"self.metadata.name.size() <= 63 && self.metadata.name.matches('{DNS_LABEL}')",
            "a ResourceSlice has a short name: lower case letters, digits and -, at most 63",
        )
    ]

    metadata: Metadata = Metadata()
    spec: ResourceSliceSpec
    status: ResourceSliceStatus = ResourceSliceStatus()
