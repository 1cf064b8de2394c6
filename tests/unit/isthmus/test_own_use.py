"""What our pods use of a quota, counted as the quota controller counts."""

from typing import Any

import msgspec

from isthmus import own_use
from kube.objects import Metadata, Object
from kube.quantities import Quantity


def container(cpu: str, **fields: Any) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **fields}


def pod(spec: dict[str, Any], phase: str = "Running") -> Object:
    raw = msgspec.Raw(msgspec.json.encode(spec))
    return Object(metadata=Metadata(name="a"), spec=raw, status=msgspec.Raw(msgspec.json.encode({"phase": phase})))


def cpu_of(spec: dict[str, Any]) -> Quantity:
    return own_use.of([pod(spec)])["requests.cpu"]


def test_containers_add_up() -> None:
    assert cpu_of({"containers": [container("100m"), container("1")]}) == Quantity.parse("1100m")


def test_the_greediest_init_container_counts_if_it_is_more() -> None:
    spec = {"containers": [container("1")], "initContainers": [container("3"), container("2")]}
    assert cpu_of(spec) == Quantity.parse("3")


def test_a_sidecar_runs_beside_later_init_containers_and_the_containers() -> None:
    sidecar = container("1", restartPolicy="Always")
    assert cpu_of({"containers": [container("1")], "initContainers": [sidecar, container("3")]}) == Quantity.parse("4")
    assert cpu_of({"containers": [container("5")], "initContainers": [sidecar, container("3")]}) == Quantity.parse("6")


def test_pod_level_resources_go_first() -> None:
    spec = {"containers": [container("1")], "resources": {"requests": {"cpu": "7"}}}
    assert cpu_of(spec) == Quantity.parse("7")


def test_ended_pods_use_nothing() -> None:
    found = own_use.of([pod({"containers": [container("1")]}, phase="Succeeded")])
    assert found == {"pods": Quantity.parse("0")}
