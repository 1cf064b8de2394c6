"""Copies of ConfigMaps and Secrets: what they hold, whose they are, and what must never be copied."""

import msgspec
import pytest

from kube.objects import ConfigMap, Metadata, Secret
from reflection import copies, ownership

ORIGIN = Metadata(name="settings", namespace="web", uid="u1")


def copy_of(source: ConfigMap, *, node: str = "virtual-1") -> ConfigMap:
    metadata = copies.copy_metadata(source.metadata, consumer_id="milan", node_name=node)
    body = copies.forge_config_map(source, namespace="web-milan", name="settings", metadata=metadata)
    return msgspec.convert(body, ConfigMap)


def test_a_fresh_copy_is_in_step() -> None:
    source = ConfigMap(metadata=ORIGIN, data={"a": "1"}, binary_data={"b": "AA=="}, immutable=True)
    assert copies.in_step(source, copy_of(source), "virtual-1")


@pytest.mark.parametrize(
    "changed",
    [
        ConfigMap(metadata=ORIGIN, data={"a": "2"}),
        ConfigMap(metadata=ORIGIN, data={"a": "1"}, binary_data={"b": "AA=="}),
        ConfigMap(metadata=ORIGIN, data={"a": "1"}, immutable=True),
        ConfigMap(metadata=Metadata(name="settings", namespace="web", uid="u2"), data={"a": "1"}),
    ],
)
def test_any_difference_is_noticed(changed: ConfigMap) -> None:
    source = ConfigMap(metadata=ORIGIN, data={"a": "1"})
    assert not copies.in_step(changed, copy_of(source), "virtual-1")


def test_a_copy_for_another_virtual_node_must_be_claimed_by_ours_too() -> None:
    source = ConfigMap(metadata=ORIGIN, data={"a": "1"})
    copy = copy_of(source, node="virtual-2")
    assert not copies.in_step(source, copy, "virtual-1")
    assert ownership.other_users(copy.metadata, "virtual-1")
    assert not ownership.other_users(copy.metadata, "virtual-2")


def test_an_immutable_copy_of_an_older_object_is_replaced() -> None:
    old = copy_of(ConfigMap(metadata=ORIGIN, data={"a": "1"}, immutable=True))
    new = ConfigMap(metadata=Metadata(name="settings", namespace="web", uid="u2"), data={"a": "2"}, immutable=True)
    assert copies.needs_replacement(new, old)


@pytest.mark.parametrize("kind", ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"])
def test_a24_secrets_that_mint_tokens_are_not_copied(kind: str) -> None:
    source = Secret(metadata=ORIGIN, type=kind, data={"token": "c2VjcmV0"})
    with pytest.raises(copies.NotReflectableError) as caught:
        copies.forge_secret(source, namespace="web-milan", name="settings", metadata={})
    assert "c2VjcmV0" not in str(caught.value)
    assert "web/settings" in str(caught.value)
