"""Manifests as a person would write them. Pure."""

from __future__ import annotations

from typing import Any

import yaml


def text(manifest: dict[str, Any]) -> str:
    """YAML in the order given, with text of several lines as blocks."""
    dumped: str = yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=120)
    return dumped


class _Dumper(yaml.SafeDumper):
    """Blocks for text of several lines."""


def _string(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _string)
