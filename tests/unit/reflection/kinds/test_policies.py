"""NetworkPolicies and disruption budgets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflection.kinds import disruptionbudget, networkpolicy
from reflection.kinds.model import Refusal
from reflection.kinds.networkpolicy import NAME_LABEL
from tests.unit.reflection.kinds.contexts import Json, context, copy, document

NAMESPACES = {"web": "web-c", "db": "db-c"}


def policy(*peers: Json, direction: str = "ingress", side: str = "from") -> Json:
    return document(spec={"podSelector": {"matchLabels": {"a": "b"}}, direction: [{side: list(peers)}]})


def by_name(*names: str) -> Json:
    return {"matchExpressions": [{"key": NAME_LABEL, "operator": "In", "values": list(names)}]}


@pytest.mark.parametrize(
    ("selector", "made"),
    [
        ({"matchLabels": {NAME_LABEL: "db"}}, {"matchLabels": {NAME_LABEL: "db-c"}}),
        (by_name("db"), {"matchLabels": {NAME_LABEL: "db-c"}}),
        (by_name("db", "web"), by_name("db-c", "web-c")),
    ],
)
@pytest.mark.parametrize(("direction", "side"), [("ingress", "from"), ("egress", "to")])
def test_offloaded_namespaces_get_their_names_over_there(selector: Json, made: Json, direction: str, side: str) -> None:
    local = policy({"namespaceSelector": selector, "podSelector": {}}, direction=direction, side=side)
    forged = copy(networkpolicy.forge(local, context(namespaces=NAMESPACES)))
    assert forged.parts["spec"][direction] == [{side: [{"podSelector": {}, "namespaceSelector": made}]}]
    assert [note.reason for note in forged.notes] == ["NetworkPolicyPeersElsewhere"]


@pytest.mark.parametrize(
    "selector",
    [
        {},
        {"matchLabels": {"team": "a"}},
        {"matchLabels": {NAME_LABEL: "kube-system"}},
        {"matchLabels": {NAME_LABEL: "db", "team": "a"}},
        {"matchExpressions": [{"key": NAME_LABEL, "operator": "NotIn", "values": ["db"]}]},
        {"matchExpressions": [{"key": NAME_LABEL, "operator": "Exists"}]},
    ],
)
def test_what_could_let_strangers_in_is_refused(selector: Json) -> None:
    refused = networkpolicy.forge(policy({"namespaceSelector": selector}), context(namespaces=NAMESPACES))
    assert isinstance(refused, Refusal)
    assert "not under this policy" in refused.message


class Nowhere:
    def address(self, address: str) -> str | None:
        return None

    def network(self, cidr: str) -> str | None:
        return None if cidr.startswith("10.") else f"100.{cidr}"


def test_networks_are_translated_or_the_policy_is_refused() -> None:
    reachable = policy({"ipBlock": {"cidr": "64.0.0.0/8", "except": ["64.1.0.0/16"]}})
    made = copy(networkpolicy.forge(reachable, context(translation=Nowhere())))
    block = {"cidr": "100.64.0.0.0/8", "except": ["100.64.1.0.0/16"]}
    assert made.parts["spec"]["ingress"] == [{"from": [{"ipBlock": block}]}]
    assert made.notes == ()
    unknown = policy({"ipBlock": {"cidr": "10.0.0.0/8"}})
    assert isinstance(networkpolicy.forge(unknown, context(translation=Nowhere())), Refusal)


def test_a_peer_of_an_unknown_sort_is_refused() -> None:
    assert isinstance(networkpolicy.forge(policy({"serviceSelector": {}}), context()), Refusal)


PEERS = st.lists(
    st.sampled_from(
        [
            {"podSelector": {}},
            {"podSelector": {"matchLabels": {"x": "y"}}},
            {"ipBlock": {"cidr": "203.0.113.0/24"}},
            {"namespaceSelector": {"matchLabels": {NAME_LABEL: "db"}}},
        ]
    ),
    max_size=4,
)
RULES = st.lists(st.fixed_dictionaries({}, optional={"from": PEERS, "ports": st.just([{"port": 80}])}), max_size=4)


@given(rules=RULES)
def test_no_rule_ever_gets_wider(rules: list[Json]) -> None:
    """A list that is empty or absent means everybody: it must not become so, nor may a rule or peer be lost."""
    local = document(spec={"podSelector": {}, "ingress": rules})
    made = copy(networkpolicy.forge(local, context(namespaces=NAMESPACES))).parts["spec"]["ingress"]
    assert [len(rule.get("from") or ()) for rule in made] == [len(rule.get("from") or ()) for rule in rules]
    assert [rule.get("ports") for rule in made] == [rule.get("ports") for rule in rules]


def budget(allowed: int, *, observed: int = 2, **spec: Any) -> Json:
    status = {"observedGeneration": observed, "disruptionsAllowed": allowed}
    local = document(spec={"selector": {"matchLabels": {"app": "x"}}, **spec}, status=status)
    local["metadata"]["generation"] = 2
    return local


@pytest.mark.parametrize(
    ("healthy", "allowed", "observed", "stay"), [(4, 1, 2, 3), (1, 3, 2, 0), (3, 0, 2, 3), (3, 2, 1, 3), (0, 0, 2, 0)]
)
@pytest.mark.parametrize("spec", [{"minAvailable": "50%"}, {"maxUnavailable": 1}])
def test_as_many_stay_as_the_consumers_budget_says(
    healthy: int, allowed: int, observed: int, stay: int, spec: Json
) -> None:
    local = budget(allowed, observed=observed, **spec, unhealthyPodEvictionPolicy="AlwaysAllow")
    made = copy(disruptionbudget.forge(local, context(healthy_pods=lambda _selector: healthy))).parts["spec"]
    assert made == {
        "selector": {"matchLabels": {"app": "x"}},
        "minAvailable": stay,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }


@given(here=st.integers(0, 9), elsewhere=st.integers(0, 9), least=st.integers(0, 20))
def test_an_eviction_there_changes_nothing_in_the_copy(here: int, elsewhere: int, least: int) -> None:
    """The number stays as one more of the pods there goes, however late the copy is brought in step."""

    def stays(healthy: int) -> int:
        allowed = max(0, healthy + elsewhere - least)
        local = budget(allowed, minAvailable=least)
        found: int = copy(disruptionbudget.forge(local, context(healthy_pods=lambda _: healthy))).parts["spec"][
            "minAvailable"
        ]
        return found

    if stays(here) < here:  # the provider lets one go
        assert here + elsewhere > least
        assert stays(here - 1) == stays(here)


def test_a_budget_that_selects_nothing_is_nothing() -> None:
    assert disruptionbudget.forge(document(spec={"minAvailable": 1}), context()) is None


@pytest.mark.parametrize(
    ("new", "old", "weaker"), [(1, 2, True), (2, 2, False), (3, 2, False), (1, None, False), (1, "50%", False)]
)
def test_only_a_lower_number_has_to_last(new: int, old: Any, weaker: bool) -> None:
    assert disruptionbudget.is_weaker({"spec": {"minAvailable": new}}, {"spec": {"minAvailable": old}}) is weaker
