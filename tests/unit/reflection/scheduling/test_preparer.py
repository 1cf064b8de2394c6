"""Answers to API servers: right where we can, and always ones that allow."""

import base64
import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from kube.errors import TransportError
from reflection.scheduling import names, review
from reflection.scheduling.fitness import unfit
from reflection.scheduling.preparer import Preparer, Strategies
from reflection.scheduling.strategy import Strategy
from tests.unit.reflection.scheduling import matching
from tests.unit.reflection.scheduling.test_review import body

Json = dict[str, Any]


def _always(strategy: Strategy | None) -> Strategies:
    async def strategies(_namespace: str) -> Strategy | None:
        return strategy

    return strategies


async def _response(strategies: Strategies, pod: Json, registry: CollectorRegistry | None = None) -> Json:
    preparer = Preparer(strategies, unfit=unfit, registry=registry or CollectorRegistry())
    request = review.read(json.dumps(body(object=pod)).encode())
    response: Json = json.loads(await preparer.answer(request))["response"]
    assert response["allowed"] is True
    assert response["uid"] == "u1"
    return response


def _patched(pod: Json, response: Json) -> Json:
    return matching.patched(pod, json.loads(base64.b64decode(response.get("patch", "W10="))))


@pytest.mark.parametrize("strategy", [None, Strategy("Local")])
async def test_pods_of_other_namespaces_pass(strategy: Strategy | None) -> None:
    assert "patch" not in await _response(_always(strategy), {"metadata": {}, "spec": {}})


async def test_a_pod_is_prepared() -> None:
    pod: Json = {"metadata": {}, "spec": {"containers": [{"name": "a"}]}}

    response = await _response(_always(Strategy("Remote")), pod)

    assert matching.accepts(_patched(pod, response), {names.NODE_MARK: "n"})
    assert not matching.accepts(_patched(pod, response), {})


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"hostNetwork": True}, "spec.hostNetwork"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "volume v.hostPath"),
        ({"containers": [{"name": "c", "ports": [{"hostPort": 80}]}]}, "container c"),
        ({"initContainers": [{"name": "c", "volumeDevices": [{}]}]}, "container c.volumeDevices"),
    ],
)
async def test_a_pod_that_no_provider_runs_stays_local_and_its_owner_is_told(spec: Json, field: str) -> None:
    pod: Json = {"metadata": {}, "spec": spec}

    response = await _response(_always(Strategy("LocalAndRemote")), pod)
    prepared = _patched(pod, response)

    assert prepared["spec"] == spec
    assert prepared["metadata"]["annotations"] == {names.STRATEGY_MARK: names.KEPT_LOCAL}
    assert response["warnings"][0].startswith(f"isthmus: the pod stays local: {field}")


async def test_under_remote_such_a_pod_is_not_let_onto_local_nodes() -> None:
    pod: Json = {"metadata": {}, "spec": {"hostNetwork": True}}

    response = await _response(_always(Strategy("Remote")), pod)

    assert not matching.accepts(_patched(pod, response), {})
    assert response["warnings"][0].startswith("isthmus: no provider will run this pod: spec.hostNetwork")


@pytest.mark.parametrize("error", [TransportError("away", sent=False), KeyError("a bug")])
async def test_whatever_fails_the_pod_is_allowed_as_it_is(error: Exception) -> None:
    registry = CollectorRegistry()

    async def strategies(_namespace: str) -> Strategy | None:
        raise error

    response = await _response(strategies, {"metadata": {}, "spec": {}}, registry)

    assert "patch" not in response
    assert registry.get_sample_value("isthmus_webhook_pods_total", {"outcome": "failed"}) == 1


@pytest.mark.parametrize(
    "pod", [{"spec": {"containers": 7}}, {"spec": {"volumes": ["x"]}}, {"metadata": {"labels": "x"}}, {"spec": "x"}]
)
async def test_a_misshapen_pod_is_allowed_and_left_to_the_api_server(pod: Json) -> None:
    assert "patch" not in await _response(_always(Strategy("LocalAndRemote")), pod)
