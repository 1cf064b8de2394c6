"""What the provider's quotas leave to us."""

from collections.abc import Mapping

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from kube.quantities import ZERO, Quantity
from vk.node.capacity import left_in, node_resource, together
from vk.node.objects import Quota


def _quota(hard: Mapping[str, str], used: Mapping[str, str] | None = None, **spec: object) -> Quota:
    body = {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}, "status": {"hard": hard, "used": used or {}}}
    return msgspec.convert(body, Quota)


def _amounts(**amounts: str) -> dict[str, Quantity]:
    return {name: Quantity.parse(amount) for name, amount in amounts.items()}


def _text(amounts: Mapping[str, Quantity]) -> dict[str, str]:
    return {name: str(amount) for name, amount in amounts.items()}


def test_which_resource_a_quota_bounds() -> None:
    bounds = {
        "cpu": "cpu",
        "requests.cpu": "cpu",
        "limits.cpu": "cpu",
        "requests.memory": "memory",
        "limits.ephemeral-storage": "ephemeral-storage",
        "requests.nvidia.com/gpu": "nvidia.com/gpu",
        "hugepages-2Mi": "hugepages-2Mi",
        "requests.hugepages-2Mi": "hugepages-2Mi",
        "pods": "pods",
        "count/pods": "pods",
        "requests.storage": None,
        "persistentvolumeclaims": None,
        "count/secrets": None,
        "gold.storageclass.storage.k8s.io/requests.storage": None,
        "services.loadbalancers": None,
    }
    assert {name: node_resource(name) for name in bounds} == bounds


def test_what_others_use_is_not_ours_and_what_we_use_is() -> None:
    quota = _quota({"requests.cpu": "10", "pods": "20"}, {"requests.cpu": "7", "pods": "12"})
    own = _amounts(cpu="3", pods="5")
    assert _text(left_in([quota], own=own)) == {"cpu": "6", "pods": "13"}
    assert _text(left_in([quota], own={})) == {"cpu": "3", "pods": "8"}
    short = _quota({"cpu": "10", "count/pods": "20"}, {"cpu": "7", "count/pods": "12"})
    assert _text(left_in([short], own=_amounts(pods="5", **{"requests.cpu": "3"}))) == {"cpu": "6", "pods": "13"}


def test_several_quotas_all_hold() -> None:
    quotas = [_quota({"cpu": "10", "memory": "8Gi"}), _quota({"requests.cpu": "4"}), _quota({"limits.cpu": "6"})]
    assert _text(left_in(quotas, own={})) == {"cpu": "4", "memory": "8Gi"}


def test_limits_are_ours_by_our_limits() -> None:
    quota = _quota({"limits.cpu": "10"}, {"limits.cpu": "6"})
    assert _text(left_in([quota], own=_amounts(cpu="1", **{"limits.cpu": "4"}))) == {"cpu": "8"}


def test_quotas_for_some_pods_only_are_passed_over() -> None:
    scoped = _quota({"cpu": "1"}, scopes=["BestEffort"])
    selected = _quota({"cpu": "1"}, scopeSelector={"matchExpressions": [{"scopeName": "PriorityClass"}]})
    assert left_in([scoped, selected], own={}) == {}


def test_over_used_quotas_leave_nothing() -> None:
    assert _text(left_in([_quota({"cpu": "2"}, {"cpu": "5"})], own={})) == {"cpu": "0"}


def test_our_use_seen_before_the_quotas_status_does_not_add() -> None:
    assert _text(left_in([_quota({"cpu": "10"}, {"cpu": "1"})], own=_amounts(cpu="4"))) == {"cpu": "10"}


def test_namespaces_add_up_and_flags_bound() -> None:
    one, two = _amounts(cpu="3", memory="2Gi"), _amounts(cpu="1500m", memory="1Gi", pods="10")
    limit = _amounts(pods="110", memory="2560Mi")
    assert _text(together([one, two], limit=limit)) == {"cpu": "4500m", "memory": "2560Mi", "pods": "110"}


def test_without_quota_the_flags_are_all_there_is() -> None:
    limit = _amounts(cpu="4", pods="110")
    assert together([], limit=limit) == limit
    assert together([{}, _amounts(cpu="1")], limit=limit) == limit


def test_only_cpu_may_be_broken() -> None:
    assert _text(together([_amounts(cpu="1500m", memory="1500m", pods="1")], limit={})) == {
        "cpu": "1500m",
        "memory": "1",
        "pods": "1",
    }


_few = st.integers(0, 10**6).map(lambda milli: Quantity(milli * 10**6))


@given(hard=_few, used=_few, own=_few)
def test_never_negative_never_more_than_granted(hard: Quantity, used: Quantity, own: Quantity) -> None:
    left = left_in([_quota({"cpu": str(hard)}, {"cpu": str(used)})], own={"cpu": own})["cpu"]
    assert ZERO <= left <= hard
    if own <= used:
        assert left == max(ZERO, hard - (used - own))
