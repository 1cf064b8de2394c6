"""The file that says what is reflected."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.offloading.common import KindPolicy
from kube.objects import Metadata
from reflection.kinds import configuration, table
from reflection.kinds.configuration import ConfigurationError
from reflection.kinds.selection import selected


def parse(given: Any) -> Any:
    return configuration.parse(given, consumer_id="c", provider="p", resync=60.0)


def test_the_example_of_the_module_is_read() -> None:
    assert configuration.__doc__ is not None
    example = re.search(r"```yaml\n(.*)```", configuration.__doc__, re.DOTALL)
    assert example is not None
    settings, kinds = parse(yaml.safe_load(example[1]))
    assert [kind.name for kind in kinds] == ["Service", "EndpointSlice", "Widget"]
    assert settings.classes.ingress == {"nginx": "traefik"}
    assert settings.classes.load_balancer == {"example.org/lb": ""}
    assert not settings.rules["services"].permits(Metadata(name="internal-x"))
    assert "team/*" in settings.filters.labels


def test_nothing_said_means_the_table() -> None:
    settings, kinds = parse(None)
    assert (kinds, settings.rules, settings.external_ips) == (table.DEFAULT, {}, False)


def test_what_any_virtual_node_lets_through_goes() -> None:
    settings, _ = parse({"virtualNodes": [{"services": {"allow": ["a"]}}, {"services": {"allow": ["b"]}}]})
    verdicts = [
        selected("services", Metadata(name=name), (), any_of=settings.node_rules, opt_in=False) for name in "abc"
    ]
    assert verdicts == [True, True, False]


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": []},
        {"kinds": ["Service"]},
        {"reflection": {"services": {"enable": True}}},
        {"classes": {"storage": []}},
        {"customResources": [{"kind": "X"}]},
        {"customResources": [{"group": "", "version": "v1", "plural": "services", "kind": "Service"}]},
        {"customResources": [{"group": "g.io", "version": "v1", "plural": "xs", "kind": "X"}] * 2},
        [],
        "text",
    ],
)
def test_what_cannot_be_used_is_refused(bad: Any) -> None:
    with pytest.raises(ConfigurationError):
        parse(bad)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        configuration.load(tmp_path / "none", consumer_id="c", provider="p", resync=60.0)
    file = tmp_path / "file"
    file.write_text("kinds: [services]\n")
    _, kinds = configuration.load(file, consumer_id="c", provider="p", resync=60.0)
    assert [kind.name for kind in kinds] == ["Service"]


def test_the_objects_rules_are_these_rules() -> None:
    """What a NamespaceOffloading or VirtualNode says is read without translation."""
    assert {"enabled", "allow", "deny", "labelSelector"} == set(KindPolicy.__struct_encode_fields__)
