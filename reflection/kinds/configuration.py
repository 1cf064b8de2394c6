"""The file that says what is reflected for whole namespaces; unknown keys are refused.

```yaml
kinds: [services, endpointslices.discovery.k8s.io]   # default: all of the table
customResources:
  - {group: example.org, version: v1, plural: widgets, kind: Widget, statusBack: true}
reflection:                                          # what holds in all namespaces, as in NamespaceOffloading
  services: {deny: ["internal-*"]}
virtualNodes:                                        # spec.reflection of each virtual node of the provider
  - services: {labelSelector: {matchLabels: {tier: front}}}
classes:
  ingress: [{consumer: nginx, provider: traefik}]
  loadBalancer: [{consumer: example.org/lb, provider: ""}]
families: [IPv4]
externalIPs: false
externalNames: false
keepHome: {labels: ["team/*"], annotations: ["example.org/*"]}
```
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

from reflection.kinds import table
from reflection.kinds.body import DROPPED_ANNOTATIONS, DROPPED_LABELS, Filters
from reflection.kinds.custom import Custom
from reflection.kinds.model import Classes, Kind
from reflection.kinds.selection import parse_rules
from reflection.kinds.settings import KindSettings

_Rules = dict[str, dict[str, Any]]


class ConfigurationError(ValueError):
    """The file can't be used; the text says what is wrong in it."""


class _Strict(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    pass


class _Pair(_Strict, frozen=True):
    consumer: str = ""
    provider: str = ""


class _Classes(_Strict, frozen=True):
    ingress: tuple[_Pair, ...] = ()
    load_balancer: tuple[_Pair, ...] = ()


class _KeepHome(_Strict, frozen=True):
    labels: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()


class Configuration(_Strict, frozen=True):
    """The file's content; see the module."""

    kinds: tuple[str, ...] | None = None
    custom_resources: tuple[dict[str, Any], ...] = ()
    reflection: _Rules = {}
    virtual_nodes: tuple[_Rules, ...] = ()
    classes: _Classes = _Classes()
    families: tuple[str, ...] = ()
    external_ips: bool = msgspec.field(name="externalIPs", default=False)
    external_names: bool = False
    keep_home: _KeepHome = _KeepHome()


def parse(given: Any, *, consumer_id: str, provider: str, resync: float) -> tuple[KindSettings, tuple[Kind, ...]]:
    """Settings and kinds from the file's content. Raises `ConfigurationError`."""
    try:
        found = msgspec.convert({} if given is None else given, Configuration)
        chosen = table.DEFAULT if found.kinds is None else table.named(found.kinds)
        kinds = (*chosen, *(Custom.parse(row).kind() for row in found.custom_resources))
        settings = KindSettings(
            consumer_id=consumer_id,
            provider=provider,
            rules=parse_rules(found.reflection),
            node_rules=tuple(map(parse_rules, found.virtual_nodes)),
            filters=Filters(
                labels=(*DROPPED_LABELS, *found.keep_home.labels),
                annotations=(*DROPPED_ANNOTATIONS, *found.keep_home.annotations),
            ),
            classes=Classes(
                ingress={pair.consumer: pair.provider for pair in found.classes.ingress},
                load_balancer={pair.consumer: pair.provider for pair in found.classes.load_balancer},
            ),
            families=found.families,
            external_ips=found.external_ips,
            external_names=found.external_names,
            resync=resync,
        )
    except ValueError as error:  # msgspec's, the table's and the rules' own
        raise ConfigurationError(str(error)) from error
    names = [kind.resource_name for kind in kinds]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigurationError(f"{sorted(twice)[0]!r} is listed twice")
    return settings, kinds


def read(path: Path) -> dict[str, Any]:
    """The file's content, unchecked. Raises `ConfigurationError` where it is no mapping."""
    try:
        given = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    if not isinstance(given, dict | None):
        raise ConfigurationError(f"{path}: expected a mapping")
    return given or {}


def load(path: Path, *, consumer_id: str, provider: str, resync: float) -> tuple[KindSettings, tuple[Kind, ...]]:
    """Settings and kinds from a file. Raises `ConfigurationError`."""
    return parse(read(path), consumer_id=consumer_id, provider=provider, resync=resync)
