"""How a consumer's namespace is called at a managed provider, and which names it does not get."""

import pytest

from api.offloading.namespaces import NamespaceMap
from kube.objects import Metadata
from reflection.managed import naming
from reflection.managed.names import consumer_of
from reflection.managed.settings import ManagedSettings

RESERVED = ManagedSettings().reserved_namespaces


def asked(namespace: str, remote: str) -> NamespaceMap:
    spec = naming.spec_for(namespace, remote, consumer_id="blue")
    return NamespaceMap(metadata=Metadata(name=namespace, namespace="isthmus-blue"), spec=spec)


@pytest.mark.parametrize("remote", ["shop-blue", "shop", "elsewhere"])
def test_what_the_consumer_writes_is_what_the_provider_reads(remote: str) -> None:
    assert naming.wanted(asked("shop", remote), consumer_id="blue", reserved=RESERVED) == remote


@pytest.mark.parametrize("name", ["kube-system", "default", "isthmus", "isthmus-red"])
def test_names_of_the_provider_are_not_to_be_had(name: str) -> None:
    with pytest.raises(naming.DeniedError, match="reserved"):
        naming.wanted(asked("shop", name), consumer_id="blue", reserved=RESERVED)


@pytest.mark.parametrize(
    ("tenant", "consumer_id"),
    [("isthmus-blue", "blue"), ("isthmus-a-b", "a-b"), ("isthmus-", None), ("isthmus", None), ("shop", None)],
)
def test_whose_tenant_namespace_it_is(tenant: str, consumer_id: str | None) -> None:
    assert consumer_of(tenant) == consumer_id


def test_only_a_namespace_made_for_this_very_map_is_ours() -> None:
    mark = {"offloading.isthmus.dev/namespace-map": "isthmus-blue/shop"}
    label = {"offloading.isthmus.dev/consumer": "blue"}
    wanted = asked("shop", "shop").metadata

    def ours(labels: dict[str, str], annotations: dict[str, str]) -> bool:
        return naming.is_made_for(Metadata(labels=labels, annotations=annotations), wanted, consumer_id="blue")

    assert ours(label, mark)
    assert not ours({**label, "offloading.isthmus.dev/consumer": "red"}, mark)
    assert not ours(label, {"offloading.isthmus.dev/namespace-map": "isthmus-blue/other"})
    assert not ours(label, {})
