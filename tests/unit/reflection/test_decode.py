"""Small questions about a pod."""

from typing import Any

import pytest

from reflection.decode import cut_short


def pair(policy: str, phase: str, *, reason: str = "", deleted: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    pod = {"metadata": {}, "spec": {"restartPolicy": policy}, "status": {}}
    meta = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}
    return pod, {"metadata": meta, "spec": {}, "status": {"phase": phase, "reason": reason}}


@pytest.mark.parametrize(("policy", "phase"), [("Always", "Succeeded"), ("Always", "Failed"), ("OnFailure", "Failed")])
def test_a_remote_pod_deleted_at_the_provider_does_not_end_a_pod_that_would_go_on(policy: str, phase: str) -> None:
    assert cut_short(*pair(policy, phase))


@pytest.mark.parametrize(
    ("policy", "phase", "fields"),
    [
        ("Never", "Failed", {}),
        ("OnFailure", "Succeeded", {}),
        ("Always", "Running", {}),
        ("Always", "Failed", {"reason": "Evicted"}),
        ("Always", "Failed", {"deleted": False}),
    ],
)
def test_other_ends_are_the_pods_own(policy: str, phase: str, fields: dict[str, Any]) -> None:
    assert not cut_short(*pair(policy, phase, **fields))


def test_a_pod_that_is_being_deleted_ends_with_its_remote_pod() -> None:
    pod, remote = pair("Always", "Succeeded")
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not cut_short(pod, remote)
