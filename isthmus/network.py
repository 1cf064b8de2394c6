"""`isthmus network export NAME`: prints what the other side's administrator patches its NetworkPeering with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import yaml
from msgspec import Meta

from api.networking.definitions import NETWORK_PEERINGS
from api.networking.peering import NetworkPeering
from isthmus.options import LogOptions, OptionsError
from kube import config
from kube.client import Client
from kube.errors import KubeError
from netfabric.controller import exchange

USAGE = "usage: isthmus network export NAME --named THEIR-NAME-FOR-US [-o yaml|json]; NAME is a NetworkPeering here"


class ExportOptions(LogOptions, kw_only=True, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """What the user may set. Each description is the flag's help."""

    peering: Annotated[str, Meta(description="NetworkPeering of this cluster; the same as NAME")]
    named: Annotated[str, Meta(description="what the other side calls its NetworkPeering with this cluster")]
    kubeconfig: Annotated[str, Meta(description="kubeconfig of this cluster; empty: the pod's own service account")] = (
        ""
    )
    output: Annotated[Literal["yaml", "json"], Meta(description="form of the manifest")] = "yaml"


def arguments(given: Sequence[str]) -> list[str]:
    """The flags of `export`, with NAME and -o as flags. Raises `OptionsError`."""
    if not given or given[0] != "export":
        raise OptionsError(USAGE)
    rest = ["--output" if one == "-o" else one for one in given[1:]]
    if rest and not rest[0].startswith("-"):
        return ["--peering", *rest]
    return rest


async def export(options: ExportOptions) -> None:
    """Print the manifest. Raises `OptionsError`, `kube.errors.ConfigError`."""
    credentials = await config.load(kubeconfig=options.kubeconfig or None)
    async with Client.connect(credentials, name="own") as client:
        try:
            found = await client.get(NETWORK_PEERINGS, name=options.peering, decode=NetworkPeering)
            made = exchange.export(found, name=options.named)
        except (KubeError, exchange.NotReadyError) as error:
            raise OptionsError(str(error)) from error
    if options.output == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(made)).decode() + "\n")
        return
    sys.stdout.write(
        f"# What this cluster tells of itself, for {options.named}'s NetworkPeering at the other side.\n"
        f"# There, once it is declared: kubectl patch networkpeering {options.named} --type=merge --patch-file=FILE\n"
    )
    sys.stdout.write(yaml.safe_dump(made, sort_keys=False))
