"""What one kind does and the others do not."""

from __future__ import annotations

from typing import Any

import pytest

from kube.errors import ApiError
from kube.resources import CONFIG_MAPS, PODS, SECRETS, SERVICES, Resource
from reflection import ownership
from reflection.forge import names
from reflection.forge.names import CONSUMER_LABEL
from reflection.kinds import engine, marks, stores, table
from reflection.kinds.configmap import CONFIG_MAP
from reflection.kinds.custom import Custom
from reflection.kinds.disruptionbudget import DISRUPTION_BUDGETS, POD_DISRUPTION_BUDGET
from reflection.kinds.ingress import INGRESS, INGRESSES
from reflection.kinds.model import Kind
from reflection.kinds.secret import SECRET
from reflection.kinds.selection import Rule, parse_rules
from reflection.kinds.service import SERVICE
from tests.cluster.kinds.cases import NAME, REFLECT, WIDGET, WIDGETS, Json, service
from tests.cluster.kinds.world import CONSUMER_ID, NODE, World, settings_for_tests

CERTIFICATE = {"tls.crt": "", "tls.key": ""}


async def test_load_balancer_status_comes_back(world: World) -> None:
    async with world.reflecting(SERVICE, INGRESS):
        await world.create(SERVICES, service(type="LoadBalancer", loadBalancerClass="near"))
        rules = [{"host": "web.example.org"}]
        await world.create(
            INGRESSES, {"metadata": {"name": NAME}, "spec": {"ingressClassName": "near", "rules": rules}}
        )
        for resource in (SERVICES, INGRESSES):
            await world.until_remote(resource, NAME)
            status = {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}, {"hostname": "lb.example.org"}]}}
            await world.patch_remote(resource, NAME, {"status": status}, subresource="status")

            async def shown(resource: Any = resource) -> bool:
                found = await world.local(resource, NAME) or {}
                entries = found["status"]["loadBalancer"].get("ingress") or [{}]
                return bool(entries[0].get("ip") == "203.0.113.7" and entries[-1].get("hostname") == "lb.example.org")

            await world.until(shown, what=f"addresses of the {resource.kind}")
            await world.patch_remote(
                resource, NAME, {"status": {"loadBalancer": {"ingress": None}}}, subresource="status"
            )

            async def cleared(resource: Any = resource) -> bool:
                found = await world.local(resource, NAME) or {}
                return not found["status"]["loadBalancer"].get("ingress")

            await world.until(cleared, what=f"no more addresses of the {resource.kind}")


async def test_custom_status_comes_back(world: World) -> None:
    async with world.reflecting(WIDGET):
        await world.create(WIDGETS, {"metadata": {"name": NAME}, "spec": {"size": 1}})
        await world.until_remote(WIDGETS, NAME)
        status = {"phase": "Ready", "observedGeneration": 1, "gone": 1}
        await world.patch_remote(WIDGETS, NAME, {"status": status}, subresource="status")

        async def phase(wanted: Json) -> bool:
            return ((await world.local(WIDGETS, NAME)) or {}).get("status") == wanted

        await world.until(lambda: phase(status), what="the status")
        await world.patch_remote(WIDGETS, NAME, {"status": {"gone": None}}, subresource="status")
        await world.until(lambda: phase({"phase": "Ready", "observedGeneration": 1}), what="a field gone")


async def test_tls_secrets_come_with_their_ingress(world: World) -> None:
    """By reference, without a label; through a restart; and they go with it."""
    secret = {"metadata": {"name": "cert"}, "type": "kubernetes.io/tls", "data": CERTIFICATE}
    body = {"ingressClassName": "near", "tls": [{"secretName": "cert"}], "rules": [{"host": "web.example.org"}]}
    async with world.reflecting(INGRESS, SECRET):
        await world.create(INGRESSES, {"metadata": {"name": NAME}, "spec": body})
        await world.until_remote(INGRESSES, NAME)
        await world.create(SECRETS, secret)
        made = await world.until_remote(SECRETS, "cert")
    async with world.reflecting(INGRESS, SECRET):
        await world.patch(SECRETS, "cert", {"metadata": {"labels": {"v": "2"}}})
        kept = await world.until_remote(SECRETS, "cert", lambda found: found["metadata"]["labels"].get("v") == "2")
        assert kept["metadata"]["uid"] == made["metadata"]["uid"]
        await world.delete(INGRESSES, NAME)
        await world.until_gone(SECRETS, "cert")
        assert await world.local(SECRETS, "cert") is not None


@pytest.mark.parametrize("kind", [CONFIG_MAP, SECRET], ids=lambda kind: kind.name)
async def test_immutable_ones_are_made_anew(world: World, kind: Kind) -> None:
    body = {"metadata": {"name": NAME, "labels": REFLECT}, "immutable": True}
    async with world.reflecting(kind):
        await world.create(kind.resource, {**body, "data": {"a": "MQ=="}})
        first = await world.until_remote(kind.resource, NAME, lambda found: found["immutable"])
        await world.delete(kind.resource, NAME)
        await world.create(kind.resource, {**body, "data": {"a": "Mg=="}})
        second = await world.until_remote(kind.resource, NAME, lambda found: found["data"] == {"a": "Mg=="})
        assert second["metadata"]["uid"] != first["metadata"]["uid"]


async def test_copies_that_pods_need_too_stay(world: World) -> None:
    """What a virtual node copied for a pod is shared with the label's, and neither removes what the other needs."""
    used = ownership.used_by("some-node")
    shared = {
        "metadata": {
            "name": NAME,
            "labels": {names.CONSUMER_LABEL: CONSUMER_ID},
            "annotations": {
                used: "",
                names.ORIGIN_NAMESPACE: world.namespace,
                names.ORIGIN_NAME: NAME,
                names.ORIGIN_UID: "x",
            },
        },
        "data": {"a": "1"},
    }
    await world.create_remote(CONFIG_MAPS, shared)
    async with world.reflecting(CONFIG_MAP):
        await world.create(
            CONFIG_MAPS, {"metadata": {"name": NAME, "labels": {**REFLECT, "x": "y"}}, "data": {"a": "1"}}
        )
        both = await world.until_remote(CONFIG_MAPS, NAME, lambda found: marks.MADE in found["metadata"]["annotations"])
        assert used in both["metadata"]["annotations"]
        await world.patch(CONFIG_MAPS, NAME, {"metadata": {"labels": {marks.REFLECT: None}}})
        left = await world.until_remote(
            CONFIG_MAPS, NAME, lambda found: marks.MADE not in found["metadata"]["annotations"]
        )
        assert used in left["metadata"]["annotations"]
        assert "x" not in left["metadata"]["labels"]
        assert left["data"] == {"a": "1"}


async def test_tokens_are_refused_and_told(world: World) -> None:
    kind = "bootstrap.kubernetes.io/token"
    async with world.reflecting(SECRET) as reflection:
        await world.create(
            SECRETS, {"metadata": {"name": NAME, "labels": REFLECT}, "type": kind, "data": {"k": "eA=="}}
        )
        told = await world.until_told(NAME, "TokenNotReflected")
        assert kind in told.message
        assert await world.remote(SECRETS, NAME) is None
        assert [problem.name for problem in reflection.problems(world.namespace)] == [NAME]


async def test_rules_of_each_level_hold_and_can_change(world: World) -> None:
    """Everywhere, per namespace, per virtual node; what is forbidden later is removed."""
    settings = settings_for_tests(rules={"services": Rule(deny=("secret-*",))})
    levels = (parse_rules({"services": {"allow": ["web*", "secret-*"]}}), parse_rules({}))
    async with world.reflecting(SERVICE, settings=settings, entries=[world.entry(rules=levels)]) as reflection:
        for name in ("secret-x", "api", "web", "web-2"):
            await world.create(SERVICES, service(name))
        await world.until_remote(SERVICES, "web-2")
        await world.until_remote(SERVICES, "web")
        assert (await world.remote(SERVICES, "secret-x"), await world.remote(SERVICES, "api")) == (None, None)
        node = parse_rules({"services": {"labelSelector": {"matchLabels": {"app": "web-2"}}}})
        reflection.set_namespaces([world.entry(rules=(*levels, node))])
        await world.until_gone(SERVICES, "web")
        assert await world.remote(SERVICES, "web-2") is not None
        reflection.set_namespaces([world.entry(rules=(parse_rules({"services": {"enabled": False}}),))])
        await world.until_gone(SERVICES, "web-2")


async def test_budgets_hold_for_the_pods_there(world: World) -> None:
    """Two healthy pods and nothing that the consumer allows: both stay."""
    async with world.reflecting(POD_DISRUPTION_BUDGET):
        body = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": NAME}}}
        await world.create(DISRUPTION_BUDGETS, {"metadata": {"name": NAME}, "spec": body})
        await world.until_remote(DISRUPTION_BUDGETS, NAME, lambda found: found["spec"]["minAvailable"] == 0)
        for name in ("a", "b"):
            labels = {"app": NAME, names.CONSUMER_LABEL: CONSUMER_ID}
            spec = {"containers": [{"name": "main", "image": "none:1"}]}
            await world.create_remote(PODS, {"metadata": {"name": name, "labels": labels}, "spec": spec})
        made = await world.until_remote(DISRUPTION_BUDGETS, NAME, lambda found: found["spec"]["minAvailable"] == 2)
        assert "maxUnavailable" not in made["spec"]


async def _running_pods(world: World, *names: str) -> None:
    """Remote pods of ours, and the consumer's pods that they are for, all ready."""
    spec = {"containers": [{"name": "main", "image": "none:1"}]}
    for name in names:
        labels = {"app": NAME, CONSUMER_LABEL: CONSUMER_ID}
        await world.create_remote(PODS, {"metadata": {"name": name, "labels": labels}, "spec": spec})
        await world.create(PODS, {"metadata": {"name": name, "labels": labels}, "spec": {**spec, "nodeName": NODE}})
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        await world.patch(PODS, name, {"status": ready}, subresource="status")


async def _evicted(world: World, name: str) -> bool:
    """Drain at the provider: whether its API server lets the pod go."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    try:
        await world.remote_admin.create(PODS, body, name=name, namespace=world.remote_namespace, subresource="eviction")
    except ApiError as error:
        if error.throttled:
            return False
        raise
    return True


async def test_budgets_hold_for_a_drain_at_the_provider(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two pods one may go: of two evictions at once one passes, whatever the consumer knows of the first by then."""
    monkeypatch.setattr(engine, "LASTING_SECONDS", 600.0)
    async with world.reflecting(POD_DISRUPTION_BUDGET):
        await _running_pods(world, "a", "b")
        selector = {"matchLabels": {"app": NAME}}
        spec = {"minAvailable": 2, "selector": selector}
        await world.create(DISRUPTION_BUDGETS, {"metadata": {"name": NAME}, "spec": spec})
        await world.until_remote(DISRUPTION_BUDGETS, NAME, lambda found: found["spec"]["minAvailable"] == 2)

        async def counted() -> bool:
            found = await world.remote(DISRUPTION_BUDGETS, NAME) or {}
            return bool((found.get("status") or {}).get("currentHealthy") == 2)

        await world.until(counted, what="the provider to have counted")
        assert [await _evicted(world, name) for name in ("a", "b")] == [False, False]
        monkeypatch.setattr(engine, "LASTING_SECONDS", 0.0)
        await world.patch(DISRUPTION_BUDGETS, NAME, {"spec": {"minAvailable": 1}})
        await world.until_remote(DISRUPTION_BUDGETS, NAME, lambda found: found["spec"]["minAvailable"] == 1)
        monkeypatch.setattr(engine, "LASTING_SECONDS", 600.0)

        async def one_goes() -> bool:
            return await _evicted(world, "a")

        await world.until(one_goes, what="one eviction to pass")
        assert not await _evicted(world, "b"), "the consumer counts two still"
        await world.until_gone(PODS, "a")
        assert not await _evicted(world, "b")
        kept = await world.remote(DISRUPTION_BUDGETS, NAME)
        assert kept is not None
        assert kept["spec"]["minAvailable"] == 1


async def test_a29_the_pace_of_a_namespace_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = [0.05] * 4
    asked: list[str] = []

    def wait(namespace: str) -> float:
        asked.append(namespace)
        return waits.pop() if waits else 0.0

    async with world.reflecting(CONFIG_MAP) as reflection:
        monkeypatch.setattr(reflection._pace, "wait", wait)
        await world.create(CONFIG_MAPS, {"metadata": {"name": NAME, "labels": REFLECT}, "data": {"a": "1"}})
        await world.until_remote(CONFIG_MAPS, NAME)
    assert asked == [world.namespace] * 5


async def test_all_default_kinds_together(world: World) -> None:
    """Every kind of the table with the rights of `deploy/rbac`: each watch comes up, nothing is written for nothing."""
    async with world.reflecting(*table.DEFAULT) as reflection:
        await world.create(SERVICES, service())
        await world.until_remote(SERVICES, NAME)

        async def healthy() -> bool:
            return reflection.healthy()

        await world.until(healthy, what="all watches")


@pytest.mark.parametrize("plural", ["gadgets", "forbiddens"])
async def test_a_kind_that_the_provider_does_not_serve_is_told_and_holds_nothing_up(
    world: World, plural: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that it does not know, nor one for which it gives no rights."""
    monkeypatch.setattr(stores, "REFUSED_SECONDS", 1.0)
    gadget = Custom(Resource("example.org", "v1", plural, "Gadget")).kind()
    async with world.reflecting(SERVICE, gadget) as reflection:
        await world.create(SERVICES, service())
        await world.until_remote(SERVICES, NAME)

        async def told() -> bool:
            found = {(problem.resource, problem.reason) for problem in reflection.problems(world.namespace)}
            return found == {(f"{plural}.example.org", "NotWatched")}

        await world.until(told, what="the problem")
        reflection.set_namespaces([world.entry(leaving=True)])

        async def empty() -> bool:
            return reflection.is_empty(world.remote_namespace) is True

        await world.until(empty, what="nothing left")
