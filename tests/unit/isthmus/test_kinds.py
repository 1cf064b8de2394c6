"""How --reflect-kinds gets its namespaces and rules."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import prometheus_client
import pytest

from api.offloading.namespaces import NamespaceOffloading
from isthmus import kinds
from isthmus.options import Options, OptionsError
from isthmus.virtual.declared import gives_tokens
from kube.objects import Metadata
from kube.supervisor import Supervisor
from reflection.kinds import marks
from reflection.scheduling.declared import Declared
from reflection.scheduling.provider import Entry


def declared(**specs: dict[str, Any]) -> Declared:
    found = {
        (namespace, "offloading"): msgspec.convert(
            {"metadata": {"name": "offloading", "namespace": namespace}, "spec": spec}, NamespaceOffloading
        )
        for namespace, spec in specs.items()
    }
    return cast("Declared", SimpleNamespace(reflector=SimpleNamespace(store=found)))


def test_a_namespace_brings_the_rules_of_its_object() -> None:
    objects = declared(shop={"reflection": {"services": {"deny": ["internal-*"]}}}, other={})
    made = kinds.entries([Entry("shop", "shop-c"), Entry("other", "other-c", leaving=True)], objects)
    assert [(entry.namespace, entry.remote, entry.leaving) for entry in made] == [
        ("shop", "shop-c", False),
        ("other", "other-c", True),
    ]
    (rules,) = made[0].rules
    assert not rules["services"].permits(Metadata(name="internal-a"))
    assert rules["services"].permits(Metadata(name="web"))


def test_of_two_that_claim_one_provider_namespace_one_has_it() -> None:
    made = kinds.entries([Entry("a", "x"), Entry("b", "x")], declared())
    assert [entry.namespace for entry in made] == ["a"]


def test_what_pods_name_goes_only_if_no_rule_of_any_level_forbids_it(tmp_path: Path) -> None:
    file = tmp_path / "kinds.yaml"
    file.write_text("reflection: {secrets: {deny: [root-*]}}\nvirtualNodes: [{configmaps: {enabled: false}}]\n")
    objects = declared(shop={"reflection": {"secrets": {"allow": ["app-*", "root-*"]}}})
    permits = kinds.permission(Options(node_name="v", reflect_kinds=str(file)), objects)

    def may(resource: str, name: str, namespace: str = "shop", **labels: str) -> bool:
        return permits(resource, Metadata(name=name, namespace=namespace, labels=labels))

    assert may("secrets", "app-key")
    assert not may("secrets", "other")
    assert may("secrets", "other", namespace="free")
    assert not may("secrets", "root-key")
    assert not may("configmaps", "settings")
    assert not may("secrets", "app-key", **{marks.REFLECT: "false"})
    assert kinds.permission(Options(node_name="v"), None)("secrets", Metadata(name="other"))


def add(**options: Any) -> Any:
    made = Options(node_name="v", **options)
    client: Any = SimpleNamespace(name="c", metrics=None)
    return kinds.add(
        Supervisor(),
        made,
        None,
        consumer=client,
        provider=client,
        recorder=cast("Any", None),
        registry=prometheus_client.CollectorRegistry(),
    )


def test_it_is_off_unless_asked_for() -> None:
    assert add() is None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"reflect_kinds": "default"}, "--namespaces-from-objects"),
        ({"reflect_kinds": "/nonexistent/file", "namespace": ["a=b"]}, "/nonexistent/file"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionsError, match=says):
        add(**options)


def test_fixed_namespaces_are_reflected_from_the_start() -> None:
    made = add(reflect_kinds="default", namespace=["a=b"])
    assert made.is_empty("b") is None  # watched, and not listed yet


@pytest.mark.parametrize(
    ("spec", "given"), [({"serviceAccountTokens": True}, True), ({"serviceAccountTokens": False}, False), ({}, False)]
)
def test_a_namespace_opts_in_to_tokens(spec: dict[str, Any], given: bool) -> None:
    gives = gives_tokens(declared(shop=spec))
    assert gives("shop") is given
    assert gives("elsewhere") is False


def test_without_objects_the_option_alone_decides_about_tokens() -> None:
    assert gives_tokens(None)("any") is True
