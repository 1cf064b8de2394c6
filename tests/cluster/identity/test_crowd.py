"""Twenty tenants of one provider: each tried on the others' objects, and slices of what there is."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import yaml

from api.authentication.definitions import RESOURCE_SLICES
from identity.consumer.access import Place, Proof
from identity.consumer.remote import connect
from kube.client import Client
from kube.errors import ApiError
from tests.cluster.identity.conftest import LONG, Peering, condition
from tests.cluster.identity.guests import Guest
from tests.cluster.identity.test_slices import CPUS
from tests.kubectl import eventually

Json = dict[str, Any]
T = TypeVar("T")
Crowd = list[tuple[Guest, Place, Proof]]
TENANTS = 20


async def tried(client: Client, path: str, *, body: Json | None = None) -> int:
    """The HTTP status of a request."""
    try:
        data = None if body is None else json.dumps(body).encode()
        await client.raw("GET" if body is None else "POST", path, body=data)
    except ApiError as error:
        return error.status
    return 200


async def trespass(guest: Guest, place: Place, proof: Proof, others: list[Guest]) -> set[tuple[str, int]]:
    """What one tenant is answered when it tries the others' objects."""
    group = "/apis/authentication.isthmus.dev/v1alpha1"
    found: set[tuple[str, int]] = set()
    async with connect(place, proof) as client:
        own = f"/api/v1/namespaces/{guest.space}/configmaps/isthmus-tenant"
        for _ in range(int(LONG)):  # rights take a moment to count
            if await tried(client, own) == 200:
                break
            await asyncio.sleep(1)
        else:
            raise AssertionError(f"{guest.name} cannot read its own")
        found.add((f"{group}/tenants", await tried(client, f"{group}/tenants")))
        for other in others:
            core, space = f"/api/v1/namespaces/{other.space}", f"namespaces/{other.space}"
            asked = {"apiVersion": group[6:], "kind": "CredentialRequest", "metadata": {"name": "x"}, "spec": {}}
            for path, body in (
                (f"{core}/configmaps/isthmus-tenant", None),
                (f"{core}/secrets", None),
                (f"{group}/{space}/resourceslices/x", None),
                (f"{group}/{space}/credentialrequests", asked),
                (f"/apis/offloading.isthmus.dev/v1alpha1/{space}/namespacemaps", None),
                (f"/apis/coordination.k8s.io/v1/{space}/leases/x", None),
            ):
                found.add((path, await tried(client, path, body=body)))
    return found


@pytest.fixture
async def crowd(peering: Peering) -> Crowd:
    """So many tenants of one provider, each with its working credential and the right to ask for slices."""
    guests = [Guest(number) for number in range(TENANTS)]
    manifests = [lendable(guest.manifest) for guest in guests]
    await asyncio.to_thread(peering.provider.run, "apply", "-f", "-", stdin="\n---\n".join(manifests))

    def answers() -> dict[str, Json]:
        found = peering.provider.list("tenants")
        ready = {it["metadata"]["name"]: it["status"].get("identity") for it in found if "status" in it}
        return ready if len([text for text in ready.values() if text]) == TENANTS else {}

    let_in = await asyncio.to_thread(eventually, answers, what="all to be let in", timeout=LONG)
    specs = {name: yaml.safe_load(str(text))["spec"] for name, text in let_in.items()}
    entered = await asyncio.gather(*(guest.enter(specs[guest.name]) for guest in guests))
    assert len({proof.user for _, proof in entered}) == TENANTS
    return [(guest, place, proof) for guest, (place, proof) in zip(guests, entered, strict=True)]


def lendable(manifest: str) -> str:
    tenant = yaml.safe_load(manifest)
    tenant["spec"]["classes"] = ["default"]
    return json.dumps(tenant)


async def each(crowd: Crowd, act: Callable[[Guest, Place, Proof], Awaitable[T]]) -> list[T]:
    """What comes of it for each of them, some at a time."""
    slots = asyncio.Semaphore(4)

    async def one(guest: Guest, place: Place, proof: Proof) -> T:
        async with slots:
            return await act(guest, place, proof)

    return list(await asyncio.gather(*(one(*member) for member in crowd)))


async def ask(guest: Guest, place: Place, proof: Proof) -> None:
    """For more than a fair share."""
    resources = {"cpu": str(2 * CPUS // TENANTS), "memory": "1Gi", "pods": "2"}
    body = {
        "apiVersion": RESOURCE_SLICES.api_version,
        "kind": RESOURCE_SLICES.kind,
        "metadata": {"name": "mine"},
        "spec": {"identity": "north", "resources": resources},
    }
    async with connect(place, proof) as client:
        await client.create(RESOURCE_SLICES, body, namespace=guest.space)


@pytest.mark.timeout(400)
async def test_a20_a26_twenty_tenants_side_by_side_reach_and_take_nothing_of_each_other(
    peering: Peering, crowd: Crowd
) -> None:
    guests = [guest for guest, _, _ in crowd]

    async def wander(guest: Guest, place: Place, proof: Proof) -> set[tuple[str, int]]:
        return await trespass(guest, place, proof, [other for other in guests if other is not guest])

    found = await each(crowd, wander)
    assert {status for tries in found for _, status in tries} == {403}

    await each(crowd, ask)

    def answered() -> list[Json]:
        slices = [it for it in peering.provider.list("slice", "--all-namespaces") if it["metadata"]["name"] == "mine"]
        reasons = [c["reason"] for it in slices for c in it.get("status", {}).get("conditions", ())]
        return slices if len(reasons) == TENANTS and not {"Pending", "InventoryUnknown"} & {*reasons} else []

    slices = await asyncio.to_thread(eventually, answered, what="all to be answered", timeout=LONG)
    assert {it["metadata"]["namespace"] for it in slices} == {guest.space for guest in guests}
    cpus = sum(int(it["status"].get("granted", {}).get("cpu", 0)) for it in slices)
    assert cpus == CPUS, "all there is is granted, and nothing twice"
    assert {condition(it, "Granted")["reason"] for it in slices} == {"Granted", "Insufficient"}
