"""What the objects of this group share: their group, networks and addresses, and what makes one unfit.

The rules in CEL are the first line: they refuse with a reason what is wrong by itself, before it is stored. What is
wrong only together with other objects is found by `netfabric.plan`, which repeats these too.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from api.meta import DNS_LABEL, DNS_SUBDOMAIN, rule

GROUP = "networking.isthmus.dev"
VERSION = "v1alpha1"

Rules = list[dict[str, Any]]
Name = Annotated[str, Meta(pattern=DNS_SUBDOMAIN, max_length=253)]
Label = Annotated[str, Meta(pattern=DNS_LABEL, max_length=63)]

MOST_NETWORKS = 16
"""Of one kind, on one side."""

_CIDR_RULES: Rules = [
    rule(
        "isCIDR(self) && cidr(self).masked() == cidr(self)",
        "must be a network such as 10.0.0.0/16 or fd00:1::/48, with no bits set behind its prefix",
    ),
    rule(
        "!isCIDR(self) || cidr(self).prefixLength() >= (cidr(self).ip().family() == 4 ? 8 : 16)",
        "prefix must be at least /8, of IPv6 /16: a default route, or half of one, is not taken",
    ),
    rule(
        "!isCIDR(self) || (cidr(self).ip().isGlobalUnicast() && !cidr(self).containsCIDR('169.254.0.0/16') "
        "&& !cidr('240.0.0.0/4').containsCIDR(cidr(self)) && !cidr(self).containsCIDR('fe80::/10'))",
        "must be of addresses that pods can have: no loopback, link-local, multicast, unspecified or reserved ones",
    ),
]

Cidr = Annotated[
    str, Meta(min_length=4, max_length=43, extra_json_schema={"x-kubernetes-validations": list(_CIDR_RULES)})
]
"""A network in canonical text."""

Address = Annotated[
    str,
    Meta(
        min_length=2,
        max_length=39,
        extra_json_schema={
            "x-kubernetes-validations": [
                rule("isIP(self)", "must be an IP address such as 192.168.7.9 or fd00:1::9"),
                rule(
                    "!isIP(self) || ip(self).isGlobalUnicast()",
                    "must be an address of one host: no loopback, link-local, multicast or unspecified one",
                ),
            ]
        },
    ),
]

Endpoint = Annotated[
    str,
    Meta(
        max_length=259,
        extra_json_schema={
            "x-kubernetes-validations": [
                rule(
                    r"self.matches('^([a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?|\\[[0-9a-fA-F:.]+\\]):[0-9]{1,5}$')",
                    "must be host:port such as gw.example.org:51820, an IPv6 address in brackets: [fd00::1]:51820",
                )
            ]
        },
    ),
]
"""Where a tunnel's end is reached."""

PublicKey = Annotated[
    str,
    Meta(
        max_length=44,
        extra_json_schema={
            "x-kubernetes-validations": [
                rule("self.matches('^[A-Za-z0-9+/]{43}=$')", "must be a WireGuard public key: 32 bytes in base64")
            ]
        },
    ),
]


Port = Annotated[int, Meta(ge=1, le=65535)]

MOST_TUNNELS = 8
"""Between two gateways."""


class Remapped(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A network and what stands for it on the other side, prefix for prefix."""

    cidr: Annotated[Cidr, Meta(description="CIDR is the network as the cluster that has it declares it.")]
    seen_as: Annotated[
        Cidr, Meta(description="SeenAs is the network of the same size by which the other cluster reaches it.")
    ]
