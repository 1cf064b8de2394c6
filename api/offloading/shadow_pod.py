"""ShadowPod: a pod that a consumer asks a managed provider to run."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw
from msgspec.structs import force_setattr

from api.meta import Conditions
from kube.objects import EMPTY, Metadata, own


class PodTemplateMetadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The metadata that a consumer may choose."""

    labels: Annotated[
        dict[str, str], Meta(description="Labels are the pod's; those of isthmus are set by the provider.")
    ] = {}
    annotations: Annotated[dict[str, str], Meta(description="Annotations are the pod's.")] = {}


class PodTemplate(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The pod that is asked for."""

    metadata: Annotated[PodTemplateMetadata, Meta(description="Metadata is what the pod is to be labelled with.")] = (
        PodTemplateMetadata()
    )
    spec: Annotated[
        Raw, Meta(description="Spec is the PodSpec as the consumer forged it; the provider checks each field.")
    ] = EMPTY

    def __post_init__(self) -> None:
        force_setattr(self, "spec", own(self.spec))  # its own copy, for it outlives the page it came in


class ShadowPodSpec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a consumer asks to run."""

    pod: Annotated[
        PodTemplate, Meta(description="Pod is the pod that the provider's manager makes, if it may be made.")
    ]
    deletion_grace_period_seconds: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(
            description="DeletionGracePeriodSeconds is the grace that the pod is given when this object is deleted; "
            "absent, it is the pod's own.",
        ),
    ] = None


class ShadowPodStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What the provider made of it."""

    observed_generation: Annotated[
        int, Meta(description="ObservedGeneration is the generation that the status speaks of.")
    ] = 0
    conditions: Conditions = ()
    pod_uid: Annotated[str, Meta(description="PodUID is the UID of the pod that was made last.")] = msgspec.field(
        name="podUID", default=""
    )
    phase: Annotated[str, Meta(description="Phase is the pod's phase; one that ended is never run again.")] = ""
    reason: Annotated[str, Meta(description="Reason is one word in CamelCase for why no pod is there.")] = ""
    message: Annotated[str, Meta(description="Message says in full why no pod is there and what to do about it.")] = ""


class ShadowPod(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """ShadowPod asks the provider to run a pod of this object's name for the consumer."""

    metadata: Metadata = Metadata()
    spec: ShadowPodSpec
    status: ShadowPodStatus = ShadowPodStatus()
