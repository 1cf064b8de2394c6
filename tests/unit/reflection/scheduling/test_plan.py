"""What NamespaceOffloadings come to, and what is said of them."""

from typing import Any

import msgspec
import pytest

from api.offloading.namespaces import NamespaceOffloading, ObjectProblem, ProviderStatus
from api.offloading.virtual_node import VirtualNode
from reflection.scheduling import names, plan
from reflection.scheduling.declared import RemoteName
from reflection.scheduling.plan import Plan, Problem, Surroundings
from reflection.scheduling.status import SHOWN_PROBLEMS, Answer
from reflection.scheduling.strategies import strategy_of
from reflection.scheduling.strategy import Strategy


def offloading(namespace: str = "shop", *, created: str = "2026-01-01T00:00:00Z", **spec: Any) -> NamespaceOffloading:
    metadata = {"name": "offloading", "namespace": namespace, "creationTimestamp": created}
    return msgspec.convert({"metadata": metadata, "spec": spec}, NamespaceOffloading)


def around(**changes: Any) -> Surroundings:
    virtual = msgspec.convert(
        {
            "metadata": {"name": "gpu"},
            "spec": {"provider": "north", "nodeName": "node-b", "kubeconfigSecret": {"name": "k"}},
        },
        VirtualNode,
    )
    nodes: dict[str, dict[str, str]] = {
        "node-a": {names.PROVIDER_LABEL: "north", "size": "big"},
        "node-b": {"pool": "gpu"},
        "node-c": {"size": "big"},
    }
    given: dict[str, Any] = {"nodes": nodes, "virtual_nodes": [virtual], **changes}
    return Surroundings(own_namespace="isthmus", names=RemoteName("milan"), **given)


def test_all_virtual_nodes_are_selected_unless_told_otherwise() -> None:
    made = plan.plan(offloading(), around())

    assert made == Plan(providers={"north": "shop-milan", "node-c": "shop-milan"}, scheduling=True)


@pytest.mark.parametrize(
    ("selector", "providers"),
    [
        ({"matchLabels": {"pool": "gpu"}}, {"north"}),
        ({"matchLabels": {"size": "big"}}, {"north", "node-c"}),
        ({"matchExpressions": [{"key": "size", "operator": "DoesNotExist"}]}, {"north"}),
        ({"matchLabels": {"size": "small"}}, set()),
    ],
)
def test_a_provider_is_selected_with_any_of_its_virtual_nodes(selector: dict[str, Any], providers: set[str]) -> None:
    assert plan.plan(offloading(virtualNodeSelector=selector), around()).providers.keys() == providers


@pytest.mark.parametrize(
    ("spec", "remote"),
    [
        ({}, "shop-milan"),
        ({"namespaceMapping": "EnforceSameName"}, "shop"),
        ({"namespaceMapping": "SelectedName", "remoteNamespace": "tenant-7"}, "tenant-7"),
    ],
)
def test_names_follow_the_mapping(spec: dict[str, Any], remote: str) -> None:
    assert set(plan.plan(offloading(**spec), around()).providers.values()) == {remote}


@pytest.mark.parametrize("namespace", ["kube-system", "isthmus"])
def test_reserved_namespaces_are_refused(namespace: str) -> None:
    made = plan.plan(offloading(namespace), around())

    assert made.problem is not None
    assert made.problem.reason == "ReservedNamespace"
    assert not made.providers
    assert not made.scheduling


def test_a_selector_that_means_nothing_is_refused() -> None:
    selector = {"matchExpressions": [{"key": "a", "operator": "In"}]}
    mistaken = offloading(virtualNodeSelector=selector)

    made = plan.plan(mistaken, around())

    assert made.problem == Problem(
        "InvalidSelector", "spec.virtualNodeSelector: a: operator In needs at least one value"
    )
    assert strategy_of(mistaken) is None, "its pods are left alone"


def test_of_two_that_want_one_name_the_older_has_it() -> None:
    old = offloading("shop", created="2026-01-01T00:00:00Z")
    young = offloading(
        "web", created="2026-01-02T00:00:00Z", namespaceMapping="SelectedName", remoteNamespace="shop-milan"
    )
    both = around(others=[old, young])

    assert plan.plan(old, both).problem is None
    problem = plan.plan(young, both).problem
    assert problem is not None
    assert problem.reason == "NameConflict"
    assert "namespace shop is called shop-milan" in problem.message


def test_local_keeps_the_mapping_and_not_the_label() -> None:
    made = plan.plan(offloading(podStrategy="Local"), around())

    assert made.providers
    assert not made.scheduling
    assert plan.scheduling(made, "Local").status == "False"


def test_strategies_are_those_of_the_objects() -> None:
    assert strategy_of(offloading()) == Strategy("LocalAndRemote")
    assert strategy_of(offloading(podStrategy="Remote")) == Strategy("Remote")
    going = msgspec.structs.replace(
        offloading(), metadata=msgspec.structs.replace(offloading().metadata, deletion_timestamp="now")
    )
    assert strategy_of(going) is None


@pytest.mark.parametrize(
    ("entries", "status", "reason", "says"),
    [
        ([], "False", "ProvidersNotReady", "north: its virtual kubelet has not answered yet"),
        ([{"provider": "north", "namespace": "x"}], "False", "ProvidersNotReady", "has not answered yet"),
        (
            [{"provider": "north", "reason": "Denied", "message": "no right"}],
            "False",
            "ProvidersNotReady",
            "north: Denied: no right",
        ),
        ([{"provider": "north", "ready": True, "reason": "Mapped"}], "True", "Offloaded", "ready at north"),
    ],
)
def test_ready_tells_of_each_provider(entries: list[dict[str, Any]], status: str, reason: str, says: str) -> None:
    found = plan.ready(Plan(providers={"north": "x"}), msgspec.convert(entries, list[ProviderStatus]))

    assert (found.status, found.reason) == (status, reason)
    assert says in found.message


def test_ready_says_what_is_wrong_before_it_asks_providers() -> None:
    assert plan.ready(Plan(), []).reason == "NoVirtualNode"
    assert plan.ready(Plan(problem=Problem("NameConflict", "x")), []).reason == "NameConflict"


def test_messages_stay_short() -> None:
    entries = [ProviderStatus(provider="north", reason="Denied", message="x" * 5000)]

    assert len(plan.ready(Plan(providers={"north": "x"}), entries).message) <= 1024
    assert plan.prepared([f"pod-{number}" for number in range(1000)]).message.count("pod-") == 5


def test_a_provider_that_no_node_reaches_is_not_ready_whatever_was_said_before() -> None:
    made = Plan(providers={"north": "shop-milan", "south": "shop-milan"})
    entries = [
        ProviderStatus(provider=name, namespace="shop-milan", ready=True, reason="Mapped") for name in made.providers
    ]
    assert plan.ready(made, entries).status == "True"
    told = plan.ready(made, entries, lost={"south"})
    assert (told.status, told.reason) == ("False", "ProvidersNotReady")
    assert "south: Unreachable" in told.message
    assert "north" not in told.message


def problem(name: str, reason: str = "ProviderRefused", message: str = "quota") -> ObjectProblem:
    return ObjectProblem(resource="services", name=name, reason=reason, message=message)


def test_objects_that_are_held_up_are_named_a_strangers_first() -> None:
    made = Plan(providers={"north": "shop-milan"})
    assert plan.reflected(made, []).status == "True"
    found = (problem("a"), problem("b", "ForeignObject", "is not ours"))
    entry = ProviderStatus(provider="north", problems=found, problem_count=2)
    told = plan.reflected(made, [entry, ProviderStatus(provider="south", problems=(problem("c"),), problem_count=1)])
    assert (told.status, told.reason) == ("False", "ForeignObject")
    assert told.message.startswith("north: services b: ForeignObject: is not ours; north: services a: ")
    assert "south" not in told.message, "that provider is not wanted any more"


def test_of_many_problems_some_are_named_and_all_are_counted() -> None:
    answer = Answer(True, "Mapped", "").with_problems([problem(f"s{n}", message="x" * 5000) for n in range(1000)])
    entry = msgspec.convert(answer.entry("north"), ProviderStatus)
    assert answer.said_in(entry)
    assert not Answer(True, "Mapped", "").said_in(entry)
    assert (len(entry.problems), entry.problem_count) == (SHOWN_PROBLEMS, 1000)
    assert len(str(entry)) < 10_000
    told = plan.reflected(Plan(providers={"north": "x"}), [entry])
    assert told.message.endswith("and 997 more (status.providers, and events of the objects)")
