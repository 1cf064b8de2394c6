"""What one kind does and the others do not."""

from __future__ import annotations

from typing import Any

import pytest

from kube.resources import CONFIG_MAPS, PODS, SECRETS, SERVICES, Resource
from reflection import ownership
from reflection.forge import names
from reflection.kinds import marks, stores, table
from reflection.kinds.configmap import CONFIG_MAP
from reflection.kinds.custom import Custom
from reflection.kinds.disruptionbudget import DISRUPTION_BUDGETS, POD_DISRUPTION_BUDGET
from reflection.kinds.ingress import INGRESS, INGRESSES
from reflection.kinds.secret import SECRET
from reflection.kinds.selection import Rule, parse_rules
from reflection.kinds.service import SERVICE
from tests.cluster.kinds.cases import NAME, REFLECT, WIDGET, WIDGETS, Json, service
from tests.cluster.kinds.world import CONSUMER_ID, World, settings_for_tests

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


async def test_immutable_config_maps_are_made_anew(world: World) -> None:
    body = {"metadata": {"name": NAME, "labels": REFLECT}, "immutable": True}
    async with world.reflecting(CONFIG_MAP):
        await world.create(CONFIG_MAPS, {**body, "data": {"a": "1"}})
        first = await world.until_remote(CONFIG_MAPS, NAME, lambda found: found["immutable"])
        await world.delete(CONFIG_MAPS, NAME)
        await world.create(CONFIG_MAPS, {**body, "data": {"a": "2"}})
        second = await world.until_remote(CONFIG_MAPS, NAME, lambda found: found["data"] == {"a": "2"})
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
