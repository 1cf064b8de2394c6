"""Services of every type, and the endpoints that live elsewhere."""

from __future__ import annotations

from typing import Any

from kube.resources import SERVICES
from reflection.kinds import marks
from reflection.kinds.endpointslice import ENDPOINT_SLICE, ENDPOINT_SLICES
from reflection.kinds.service import SERVICE
from tests.cluster.kinds.cases import NAME, Json, addresses, service, slice_of
from tests.cluster.kinds.world import NODE, World, settings_for_tests


async def test_services_of_every_type(world: World) -> None:
    """As the provider's API server takes them, defaults and allocation included, and written once."""
    many = {
        "headless": service("headless", clusterIP="None", publishNotReadyAddresses=True),
        "node-port": service("node-port", type="NodePort"),
        "sticky": service("sticky", sessionAffinity="ClientIP"),
        "balanced": service("balanced", type="LoadBalancer", loadBalancerClass="near", externalTrafficPolicy="Local"),
        "unmapped": service("unmapped", type="LoadBalancer", loadBalancerClass="example.org/other"),
        "dual": service("dual", ipFamilyPolicy="PreferDualStack"),
        "kept": service("kept", type="NodePort"),
    }
    many["kept"]["metadata"]["annotations"] = {marks.KEEP_NODE_PORT: "true"}
    many["kept"]["spec"]["ports"][0]["nodePort"] = 32123
    async with world.reflecting(SERVICE):
        found: dict[str, Json] = {}
        for body in many.values():
            await world.create(SERVICES, body)
        for name in many:
            found[name] = (await world.until_remote(SERVICES, name))["spec"]
        mine = {name: (await world.local(SERVICES, name) or {})["spec"] for name in many}
        before = await world.revisions(SERVICES)
    assert found["headless"]["clusterIP"] == "None"
    assert found["node-port"]["ports"][0]["nodePort"] != mine["node-port"]["ports"][0]["nodePort"]
    assert found["kept"]["ports"][0]["nodePort"] == 32123
    assert found["sticky"]["clusterIP"] != mine["sticky"]["clusterIP"]
    assert found["balanced"]["loadBalancerClass"] == "far"
    assert (found["balanced"]["type"], found["unmapped"]["type"]) == ("LoadBalancer", "ClusterIP")
    async with world.reflecting(SERVICE):
        await world.create(SERVICES, service("last"))
        await world.until_remote(SERVICES, "last")
    after = await world.revisions(SERVICES)
    assert {name: after[name] for name in before} == before


async def test_a_service_goes_through_every_type(world: World) -> None:
    """In place where an API server allows it, as the user changes it."""
    steps: list[Json] = [
        {"type": "NodePort"},
        {"type": "LoadBalancer", "loadBalancerClass": "near"},
        {"type": "ClusterIP", "loadBalancerClass": None},
        {"type": "ExternalName", "externalName": "db.example.org", "clusterIP": None, "clusterIPs": None},
        {"type": "ClusterIP", "externalName": None},
    ]
    async with world.reflecting(SERVICE, settings=settings_for_tests(external_names=True)):
        await world.create(SERVICES, service())
        await world.until_remote(SERVICES, NAME)
        for step in steps:
            await world.patch(SERVICES, NAME, {"spec": step})
            wanted = step["type"]

            def has_type(found: Json, wanted: Any = wanted) -> bool:
                return bool(found["spec"]["type"] == wanted)

            found = await world.until_remote(SERVICES, NAME, has_type)
            assert ("clusterIP" in found["spec"]) is (step["type"] != "ExternalName")
            assert found["spec"].get("loadBalancerClass") == ("far" if step["type"] == "LoadBalancer" else None)


async def test_a_services_address_at_the_provider_is_told_where_asked_and_while_it_is_true(world: World) -> None:
    async def told() -> str:
        found = (await world.local(SERVICES, NAME) or {}).get("status", {}).get("conditions") or []
        return next((one["message"] for one in found if one["type"].endswith("/at-provider")), "")

    async def untold() -> bool:
        return not await told()

    async with world.reflecting(SERVICE) as reflection:
        await world.create(SERVICES, service(type="NodePort"))
        remote = await world.until_remote(SERVICES, NAME)
        assert await untold()
        for wish in ("any", "none", "provider"):
            await world.patch(SERVICES, NAME, {"metadata": {"annotations": {marks.STATUS_FROM: wish}}})
            message = await world.until(untold if wish == "none" else told, what=f"the condition, status-from {wish}")
        assert f"cluster IP {remote['spec']['clusterIP']}" in message
        assert f"80:{remote['spec']['ports'][0]['nodePort']}/TCP" in message
        reflection.set_namespaces([world.entry(leaving=True)])
        await world.until_gone(SERVICES, NAME)
        await world.until(untold, what="the condition to go with the copy")


async def test_service_becomes_headless_by_being_made_anew(world: World) -> None:
    async with world.reflecting(SERVICE):
        await world.create(SERVICES, service())
        first = await world.until_remote(SERVICES, NAME)
        await world.delete(SERVICES, NAME)
        await world.create(SERVICES, service(clusterIP="None"))
        second = await world.until_remote(SERVICES, NAME, lambda found: found["spec"]["clusterIP"] == "None")
        assert second["metadata"]["uid"] != first["metadata"]["uid"]


async def test_slices_follow_their_service(world: World) -> None:
    """They come and go with the Service's being reflected, and with the nodes that are the provider's."""
    async with world.reflecting(SERVICE, ENDPOINT_SLICE) as reflection:
        await world.create(ENDPOINT_SLICES, slice_of())
        body = service(selector=None)
        body["metadata"]["annotations"] = {marks.REFLECT: "false"}
        await world.create(SERVICES, body)
        await world.create(SERVICES, service("marker"))
        await world.until_remote(SERVICES, "marker")
        assert await world.remote(ENDPOINT_SLICES, NAME) is None
        await world.patch(SERVICES, NAME, {"metadata": {"annotations": {marks.REFLECT: None}}})
        await world.until_remote(ENDPOINT_SLICES, NAME, lambda found: addresses(found) == ["203.0.113.2"])
        reflection.set_nodes([NODE, "worker"])
        await world.until_gone(ENDPOINT_SLICES, NAME)
        reflection.set_nodes([])
        everything = ["203.0.113.1", "203.0.113.2"]
        await world.until_remote(ENDPOINT_SLICES, NAME, lambda found: addresses(found) == everything)
        await world.patch(SERVICES, NAME, {"metadata": {"annotations": {marks.REFLECT: "false"}}})
        await world.until_gone(ENDPOINT_SLICES, NAME)
        await world.until_gone(SERVICES, NAME)


async def test_a_thousand_endpoints(world: World) -> None:
    """Ten slices of a hundred; one endpoint's change is one write."""
    async with world.reflecting(SERVICE, ENDPOINT_SLICE):
        await world.create(SERVICES, service(selector=None))
        for number in range(10):
            endpoints = [
                {"addresses": [f"10.9.{number}.{host}"], "conditions": {"ready": True}} for host in range(1, 101)
            ]
            await world.create(ENDPOINT_SLICES, slice_of(NAME, f"{NAME}-{number}", *endpoints))

        async def total() -> bool:
            listing = await world.remote_admin.list(ENDPOINT_SLICES, namespace=world.remote_namespace)
            return sum(len(item["endpoints"]) for item in listing.items) == 1000

        await world.until(total, what="a thousand endpoints")
        before = await world.revisions(ENDPOINT_SLICES)
        await world.patch(ENDPOINT_SLICES, f"{NAME}-3", {"endpoints": [{"addresses": ["10.9.3.1"]}]})
        await world.until_remote(ENDPOINT_SLICES, f"{NAME}-3", lambda found: len(found["endpoints"]) == 1)
        after = await world.revisions(ENDPOINT_SLICES)
        assert [name for name in before if before[name] != after[name]] == [f"{NAME}-3"]


class Shifted:
    """What a network module may answer: 10.9.0.0/16 is 10.99.0.0/16 over there, the rest can't be reached."""

    def __init__(self) -> None:
        self.there = "10.99."

    def address(self, address: str) -> str | None:
        if ":" in address:
            return address
        return address.replace("10.9.", self.there, 1) if address.startswith("10.9.") else None

    def network(self, cidr: str) -> str | None:
        return cidr


async def test_endpoints_keep_what_means_something_there_in_both_families(world: World) -> None:
    """Addresses as the network module sees them, and again when it sees them otherwise."""
    conditions = {"ready": False, "serving": True, "terminating": True}
    ending = {"addresses": ["10.9.0.1"], "conditions": conditions, "hostname": "db-0", "zone": "z", "nodeName": "w"}
    network = Shifted()
    async with world.reflecting(SERVICE, ENDPOINT_SLICE, translation=network) as reflection:
        await world.create(SERVICES, service(selector=None))
        await world.create(ENDPOINT_SLICES, slice_of(NAME, NAME, ending, {"addresses": ["192.168.0.1"]}))
        six = {**slice_of(NAME, "six", {"addresses": ["2001:db8::1"]}), "addressType": "IPv6"}
        await world.create(ENDPOINT_SLICES, six)
        made = await world.until_remote(ENDPOINT_SLICES, NAME)
        assert made["endpoints"] == [
            {"addresses": ["10.99.0.1"], "conditions": conditions, "hostname": "db-0", "zone": "z"}
        ]
        second = await world.until_remote(ENDPOINT_SLICES, "six")
        assert (second["addressType"], addresses(second)) == ("IPv6", ["2001:db8::1"])
        network.there = "10.98."
        reflection.reconsider()
        await world.until_remote(ENDPOINT_SLICES, NAME, lambda found: addresses(found) == ["10.98.0.1"])


async def test_a23_addresses_of_the_machine_itself_never_travel(world: World) -> None:
    network = Shifted()
    async with world.reflecting(SERVICE, ENDPOINT_SLICE, translation=network):
        await world.create(SERVICES, service(selector=None))
        await world.create(ENDPOINT_SLICES, slice_of(NAME, NAME, {"addresses": ["10.9.254.169"]}))
        await world.until_remote(ENDPOINT_SLICES, NAME)
        network.there = "127.0."
        change = {"endpoints": [{"addresses": ["10.9.0.1"]}]}
        await world.patch(ENDPOINT_SLICES, NAME, change)
        await world.until_gone(ENDPOINT_SLICES, NAME)


async def test_what_the_provider_refuses_is_told(world: World) -> None:
    body = service(type="NodePort")
    body["metadata"]["annotations"] = {marks.KEEP_NODE_PORT: "true"}
    async with world.reflecting(SERVICE):
        taken = await world.create_remote(SERVICES, service("theirs", type="NodePort"))
        body["spec"]["ports"][0]["nodePort"] = taken["spec"]["ports"][0]["nodePort"]
        await world.create(SERVICES, body)
        told = await world.until_told(NAME, "ProviderRefused")
        assert "already allocated" in told.message
        await world.remote_admin.delete(SERVICES, name="theirs", namespace=world.remote_namespace)
        await world.until_remote(SERVICES, NAME)
