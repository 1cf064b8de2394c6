"""What pods are given so that they go where their namespace's strategy says, judged by what nodes they then accept."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.meta import LabelSelector, SelectorRequirement
from reflection.scheduling import names, tolerance
from reflection.scheduling.selectors import Requirement, SelectorError, accepts, of
from reflection.scheduling.strategy import Strategy, exemption, mark, patch
from tests.unit.reflection.scheduling import matching

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_KEYS = ("zone", "size", names.NODE_MARK)
_VALUES = ("a", "b", "1", "7")

_labels = st.dictionaries(st.sampled_from(_KEYS), st.sampled_from(_VALUES))


def _requirements(keys: tuple[str, ...] = _KEYS) -> st.SearchStrategy[Requirement]:
    listed = st.lists(st.sampled_from(_VALUES), min_size=1, max_size=3).map(tuple)
    key = st.sampled_from(keys)
    return st.one_of(
        st.builds(Requirement, key, st.sampled_from(["In", "NotIn"]), listed),
        st.builds(Requirement, key, st.sampled_from(["Exists", "DoesNotExist"])),
    )


_strategies = st.builds(
    Strategy,
    st.sampled_from(["Local", "Remote", "LocalAndRemote"]),
    st.lists(_requirements(("zone", "size")), max_size=3).map(tuple),
)
_numbers = st.builds(
    lambda key, operator, value: {"key": key, "operator": operator, "values": [value]},
    st.sampled_from(_KEYS),
    st.sampled_from(["Gt", "Lt"]),
    st.sampled_from(["0", "5"]),
)
_expressions = st.lists(st.one_of(_requirements().map(Requirement.expression), _numbers), max_size=3)
_fields = st.lists(
    st.builds(
        lambda operator, value: {"key": "metadata.name", "operator": operator, "values": [value]},
        st.sampled_from(["In", "NotIn"]),
        st.sampled_from(["n", "m"]),
    ),
    max_size=1,
)
_terms = st.fixed_dictionaries({}, optional={"matchExpressions": _expressions, "matchFields": _fields})
_node_affinity = st.fixed_dictionaries(
    {},
    optional={
        _REQUIRED: st.fixed_dictionaries({"nodeSelectorTerms": st.lists(_terms, min_size=1, max_size=3)}),
        "preferredDuringSchedulingIgnoredDuringExecution": st.just([{"weight": 1, "preference": {}}]),
    },
)
_affinity = st.none() | st.fixed_dictionaries(
    {}, optional={"nodeAffinity": st.none() | _node_affinity, "podAntiAffinity": st.just({"kept": True})}
)
_DEFAULTS = [
    {"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300} for taint in tolerance.TAINTS
]
_tolerations = st.none() | st.lists(
    st.sampled_from([{"operator": "Exists"}, names.TOLERATION, *_DEFAULTS]).map(copy.deepcopy), max_size=4
)
_annotations = st.none() | st.dictionaries(st.sampled_from(["x/y", "z~"]), st.just("v"))


@st.composite
def _pods(draw: st.DrawFn) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": []}
    for key, values in (("affinity", _affinity), ("tolerations", _tolerations)):
        if draw(st.booleans()):
            spec[key] = draw(values)
    metadata = {"annotations": draw(_annotations)} if draw(st.booleans()) else {}
    return {"metadata": metadata, "spec": spec}


def _allows(strategy: Strategy, labels: dict[str, str]) -> bool:
    """The rule in words, not as the code has it."""
    virtual = names.NODE_MARK in labels
    selected = virtual and accepts(strategy.selector, labels)
    return {"Local": True, "Remote": selected, "LocalAndRemote": selected or not virtual}[strategy.pods]


@given(_pods(), _strategies, _labels, st.sampled_from(["n", "m"]))
def test_a_prepared_pod_accepts_what_it_accepted_and_the_strategy_allows(
    pod: dict[str, Any], strategy: Strategy, labels: dict[str, str], name: str
) -> None:
    prepared = matching.patched(pod, patch(pod, strategy))

    wanted = matching.accepts(pod, labels, name=name) and _allows(strategy, labels)
    assert matching.accepts(prepared, labels, name=name) == wanted


@given(_pods(), _strategies)
def test_preparing_twice_is_preparing_once(pod: dict[str, Any], strategy: Strategy) -> None:
    prepared = matching.patched(pod, patch(pod, strategy))

    assert patch(prepared, strategy) == []


@given(_pods(), _strategies)
def test_nothing_else_of_the_pod_changes(pod: dict[str, Any], strategy: Strategy) -> None:
    before = copy.deepcopy(pod)
    prepared = matching.patched(pod, patch(pod, strategy))

    assert pod == before
    tolerations = pod["spec"].get("tolerations") or []
    if strategy.pods == "Remote":
        tolerations = tolerance.loosened(tolerations) or tolerations
    assert [one for one in prepared["spec"].get("tolerations") or [] if one != names.TOLERATION] == [
        one for one in tolerations if one != names.TOLERATION
    ]
    for document in (pod, prepared):
        document["spec"].pop("tolerations", None)
        (document["metadata"].get("annotations") or {}).pop(names.STRATEGY_MARK, None)
        affinity = document["spec"].get("affinity") or {}
        (affinity.get("nodeAffinity") or {}).pop(_REQUIRED, None)
        if not affinity.get("nodeAffinity"):
            affinity.pop("nodeAffinity", None)
        document["spec"]["affinity"] = affinity
        document["metadata"]["annotations"] = document["metadata"].get("annotations") or {}
    assert prepared == pod


@given(_pods(), _strategies)
def test_a_pod_of_another_strategy_than_local_tolerates_virtual_nodes(pod: dict[str, Any], strategy: Strategy) -> None:
    prepared = matching.patched(pod, patch(pod, strategy))

    if strategy.pods == "Local":
        assert prepared == pod
    else:
        assert prepared["spec"]["tolerations"].count(names.TOLERATION) >= 1
        assert prepared["metadata"]["annotations"][names.STRATEGY_MARK] == strategy.pods


def test_terms_are_multiplied() -> None:
    zone = {"key": "zone", "operator": "In", "values": ["a"]}
    size = {"key": "size", "operator": "Gt", "values": ["3"]}
    terms = [{"matchExpressions": [zone]}, {"matchExpressions": [size]}]
    pod = {"metadata": {}, "spec": {"affinity": {"nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": terms}}}}}
    selected = Requirement("gpu", "Exists")

    prepared = matching.patched(pod, patch(pod, Strategy("LocalAndRemote", (selected,))))

    local = {"key": names.NODE_MARK, "operator": "DoesNotExist"}
    remote = [{"key": names.NODE_MARK, "operator": "Exists"}, selected.expression()]
    assert prepared["spec"]["affinity"]["nodeAffinity"][_REQUIRED]["nodeSelectorTerms"] == [
        {"matchExpressions": [zone, local]},
        {"matchExpressions": [zone, *remote]},
        {"matchExpressions": [size, local]},
        {"matchExpressions": [size, *remote]},
    ]


def test_without_a_selector_local_and_remote_needs_no_affinity() -> None:
    pod: dict[str, Any] = {"metadata": {}, "spec": {}}

    prepared = matching.patched(pod, patch(pod, Strategy("LocalAndRemote")))

    assert "affinity" not in prepared["spec"]


_OWNER = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u"}


@pytest.mark.parametrize(
    ("pod", "exempt"),
    [
        ({"metadata": {}, "spec": {}}, False),
        ({"metadata": {}, "spec": {"nodeName": "n"}}, True),
        ({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {}}, True),
        ({"metadata": {"ownerReferences": [{**_OWNER, "controller": True}]}, "spec": {}}, True),
        ({"metadata": {"ownerReferences": [_OWNER]}, "spec": {}}, False),
        ({"metadata": {"ownerReferences": [{**_OWNER, "kind": "ReplicaSet", "controller": True}]}, "spec": {}}, False),
        ({"metadata": {"labels": {names.OPT_OUT: "true"}}, "spec": {}}, True),
        ({"metadata": {"annotations": {names.OPT_OUT: "true"}}, "spec": {}}, True),
        ({"metadata": {"labels": {names.OPT_OUT: "false"}}, "spec": {}}, False),
        ({}, False),
    ],
)
def test_some_pods_are_left_alone(pod: dict[str, Any], exempt: bool) -> None:
    assert bool(exemption(pod)) is exempt
    assert (patch(pod, Strategy("Remote")) == []) is exempt


def test_a_mark_is_written_once() -> None:
    assert mark({"metadata": {"annotations": {names.STRATEGY_MARK: "Remote"}}}, "Remote") == []
    escaped = mark({"metadata": {"annotations": {"a": "b"}}}, "Remote")[0]["path"]
    assert escaped == "/metadata/annotations/offloading.isthmus.dev~1pod-strategy"


def test_a_selector_is_read_from_its_two_parts() -> None:
    selector = LabelSelector(
        match_labels={"b": "2", "a": "1"},
        match_expressions=(SelectorRequirement(key="c", operator="NotIn", values=("3",)),),
    )

    wanted = (Requirement("a", "In", ("1",)), Requirement("b", "In", ("2",)), Requirement("c", "NotIn", ("3",)))
    assert of(selector) == wanted
    assert of(None) == of(LabelSelector()) == ()


@pytest.mark.parametrize(
    "expression",
    [
        SelectorRequirement(key="a", operator="In"),
        SelectorRequirement(key="a", operator="NotIn"),
        SelectorRequirement(key="a", operator="Exists", values=("1",)),
        SelectorRequirement(key="a", operator="DoesNotExist", values=("1",)),
    ],
)
def test_a_selector_that_kubernetes_would_refuse_is_refused(expression: SelectorRequirement) -> None:
    with pytest.raises(SelectorError, match=r"^a: "):
        of(LabelSelector(match_expressions=(expression,)))
