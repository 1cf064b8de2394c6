"""What the objects of this group share: their group, the patterns of names, and what is reflected."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from api.meta import DNS_LABEL, DNS_SUBDOMAIN, LabelSelector, rule

GROUP = "offloading.isthmus.dev"
VERSION = "v1alpha1"

Rules = list[dict[str, Any]]
"""CEL validations of a type, in its RULES."""
Name = Annotated[str, Meta(pattern=DNS_SUBDOMAIN, max_length=253)]
Label = Annotated[str, Meta(pattern=DNS_LABEL, max_length=63)]
Labels = dict[str, Annotated[str, Meta(max_length=63)]]
Mapping = Literal["DefaultName", "EnforceSameName", "SelectedName"]
"""How a namespace is called at the provider."""
PATH_BROKEN: Final = "PathBroken"
"""Reason of a Node whose provider answers, while pods here and there do not reach each other: those there run on."""


def same(field: str, advice: str) -> dict[str, Any]:
    """An optional field that must stay as it was, absent or not."""
    return rule(
        f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})", advice
    )


class KindPolicy(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What of one kind is reflected."""

    enabled: Annotated[bool, Meta(description="Enabled tells whether objects of this kind are reflected at all.")] = (
        True
    )
    allow: Annotated[
        tuple[Annotated[str, Meta(max_length=253)], ...],
        Meta(description="Allow are names, with * for any text, of which one must match; none means every name."),
    ] = ()
    deny: Annotated[
        tuple[Annotated[str, Meta(max_length=253)], ...],
        Meta(description="Deny are names, with * for any text, that are not reflected even if allowed."),
    ] = ()
    label_selector: Annotated[
        LabelSelector | None,
        Meta(description="LabelSelector selects the objects that are reflected; none selects all."),
    ] = None


Reflection = Annotated[
    dict[str, KindPolicy],
    Meta(
        description="Reflection says by plural resource name, such as services or ingresses.networking.k8s.io, what of "
        "each kind is reflected; a kind that is not named follows the cluster's configuration."
    ),
]


MAPPING_RULES: Rules = [
    rule(
        "has(self.remoteNamespace) == (has(self.namespaceMapping) && self.namespaceMapping == 'SelectedName')",
        "remoteNamespace must be given with namespaceMapping SelectedName, and only with it",
    ),
    same("namespaceMapping", "namespaceMapping cannot be changed: delete this object and make it anew"),
    same("remoteNamespace", "remoteNamespace cannot be changed: delete this object and make it anew"),
]
"""Of a spec with namespaceMapping and remoteNamespace."""
