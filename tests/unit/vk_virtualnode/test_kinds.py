"""From VirtualNodes to what their virtual kubelets reflect of whole namespaces, as the program reads it."""

from typing import Any

import pytest
import yaml

from api.offloading.virtual_node import VirtualNode
from kube.objects import Metadata
from reflection.kinds import configuration
from reflection.kinds.selection import selected
from reflection.kinds.settings import KindSettings
from tests.unit.vk_virtualnode.conftest import virtual_node
from vk.virtualnode import kinds, render
from vk.virtualnode.settings import CONFIG_ANNOTATION, VirtualNodeSettings

CLASSES = {
    "storage": [{"consumer": "fast", "provider": "ssd"}],
    "ingress": [{"consumer": "nginx", "provider": "traefik"}],
    "loadBalancer": [{"consumer": "example.org/lb", "provider": "metal.example.org/lb"}, {"consumer": "plain"}],
}
FRONT = {"services": {"allow": ["front-*"], "labelSelector": {"matchLabels": {"tier": "front"}}}}


def read(*siblings: VirtualNode, given: dict[str, Any] | None = None) -> KindSettings:
    """The settings of a virtual kubelet whose ConfigMap the manager has made."""
    settings = VirtualNodeSettings(
        image="i", consumer_id="lab", server="https://c", ca=b"", declared=True, kinds=given or {}
    )
    made = render.objects(siblings[0], settings, siblings=siblings)[0]["data"]
    assert yaml.safe_load(made["options.yaml"])["reflect-kinds"] == "/etc/isthmus/options/kinds.yaml"
    return configuration.parse(yaml.safe_load(made["kinds.yaml"]), consumer_id="lab", provider="north", resync=600)[0]


def permits(settings: KindSettings, name: str, **labels: str) -> bool:
    levels = (settings.rules,)
    return selected("services", Metadata(name=name, labels=labels), levels, any_of=settings.node_rules, opt_in=False)


def test_classes_of_all_virtual_nodes_of_the_provider_are_mapped() -> None:
    other = {"ingress": [{"consumer": "nginx", "provider": "late"}, {"consumer": "public", "provider": "haproxy"}]}
    found = read(virtual_node("b", classes=other), virtual_node("a", classes=CLASSES)).classes
    assert found.ingress == {"nginx": "traefik", "public": "haproxy"}
    assert found.load_balancer == {"example.org/lb": "metal.example.org/lb", "plain": ""}


def test_what_the_cluster_says_comes_first() -> None:
    given = {"classes": {"ingress": [{"consumer": "nginx", "provider": "own"}]}, "externalNames": True}
    found = read(virtual_node("a", classes=CLASSES), given=given)
    assert found.classes.ingress == {"nginx": "own"}
    assert found.external_names


def test_rules_of_a_virtual_node_hold_unless_another_one_lets_more_through() -> None:
    alone = read(virtual_node("a", reflection=FRONT))
    assert permits(alone, "front-1", tier="front")
    assert not permits(alone, "front-1", tier="back")
    assert not permits(alone, "back", tier="front")
    with_another = read(virtual_node("a", reflection=FRONT), virtual_node("b"))
    assert permits(with_another, "back")
    both = read(virtual_node("a", reflection=FRONT), virtual_node("b", reflection={"services": {"deny": ["front-*"]}}))
    assert permits(both, "back")
    assert permits(both, "front-1", tier="front")
    assert not permits(both, "front-1", tier="back")


def test_a_kind_can_be_switched_off() -> None:
    assert not permits(read(virtual_node("a", reflection={"services": {"enabled": False}})), "any")


def test_nothing_said_is_nothing_written() -> None:
    assert kinds.document({}, [virtual_node("a")]) == {}


@pytest.mark.parametrize("change", [{"classes": CLASSES}, {"reflection": FRONT}])
def test_what_a_sibling_says_is_a_new_process(change: dict[str, Any]) -> None:
    settings = VirtualNodeSettings(image="i", consumer_id="lab", server="https://c", ca=b"", declared=True)
    one = virtual_node("a", reflection={"services": {}})

    def digest(sibling: VirtualNode) -> str:
        template = render.objects(one, settings, siblings=(one, sibling))[1]["spec"]["template"]
        return str(template["metadata"]["annotations"][CONFIG_ANNOTATION])

    assert digest(virtual_node("b")) != digest(virtual_node("b", **change))
    assert digest(virtual_node("b")) == digest(virtual_node("b", labels={"tier": "gold"}))
