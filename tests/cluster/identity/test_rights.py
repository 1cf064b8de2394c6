"""What each credential can do, as API servers see it, next to docs/rights.md; and many tenants side by side."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import rights, stack
from deploy.lab.cluster import LabCluster
from deploy.lab.lab import Lab
from identity.consumer.access import Place, Proof
from identity.consumer.remote import connect
from kube.client import Client
from kube.errors import ApiError
from tests.abilities import can
from tests.cluster.identity.conftest import LONG, Peering
from tests.cluster.identity.guests import Guest
from tests.cluster.identity.test_tenancy import entered
from tests.kubectl import Kubectl, eventually

Json = dict[str, Any]
TENANTS = 20


def nobody(cluster: LabCluster, folder: Path) -> Kubectl:
    """Somebody who has an account and no role."""
    file = cluster.client_kubeconfig("nobody-in-particular", path=folder / "nobody")
    return Kubectl(cluster.plan.binaries / "kubectl", file)


def test_a20_a_consumer_can_do_what_the_page_says_and_nothing_else(lab: Lab, peering: Peering, tmp_path: Path) -> None:
    own = entered(peering)
    common = can(nobody(lab.provider, tmp_path))
    desk = replace(own, namespace="isthmus-shop")
    assert can(desk) - common == rights.of("provider", "consumer", rights.TENANT)
    mapped = rights.of("provider", "consumer", rights.MAPPED)
    eventually(lambda: can(own) - common == mapped, what="its rights in its namespace", timeout=LONG)
    for other in ("default", "kube-system", "isthmus", "isthmus-other"):
        assert can(replace(own, namespace=other)) - common == set(), other


def test_a20_managers_can_do_what_the_page_says_and_nothing_else(lab: Lab, peering: Peering, tmp_path: Path) -> None:
    peering.exchange()
    everywhere = rights.of("provider", "manager", rights.CLUSTER)
    common = can(nobody(lab.provider, tmp_path))
    file = lab.provider.client_kubeconfig(stack.MANAGER_USER, path=tmp_path / "manager")
    manager = Kubectl(lab.provider.plan.binaries / "kubectl", file)
    for namespace, here in (("isthmus-shop", rights.TENANT), ("isthmus", rights.OWN), ("default", "")):
        found = can(replace(manager, namespace=namespace)) - common
        assert found == everywhere | rights.of("provider", "manager", here), namespace


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


@pytest.mark.timeout(400)
async def test_a20_twenty_tenants_side_by_side_reach_nothing_of_each_other(peering: Peering) -> None:
    guests = [Guest(number) for number in range(TENANTS)]
    await asyncio.to_thread(
        peering.provider.run, "apply", "-f", "-", stdin="\n---\n".join(guest.manifest for guest in guests)
    )

    def answers() -> dict[str, Json]:
        found = peering.provider.list("tenants")
        ready = {it["metadata"]["name"]: it["status"].get("identity") for it in found if "status" in it}
        return ready if len([text for text in ready.values() if text]) == TENANTS else {}

    let_in = await asyncio.to_thread(eventually, answers, what="all to be let in", timeout=LONG)
    specs = {name: yaml.safe_load(str(text))["spec"] for name, text in let_in.items()}
    entered = await asyncio.gather(*(guest.enter(specs[guest.name]) for guest in guests))
    assert len({proof.user for _, proof in entered}) == TENANTS
    slots = asyncio.Semaphore(4)

    async def one(guest: Guest, place: Place, proof: Proof) -> set[tuple[str, int]]:
        async with slots:
            return await trespass(guest, place, proof, [other for other in guests if other is not guest])

    found = await asyncio.gather(*(one(guest, *held) for guest, held in zip(guests, entered, strict=True)))
    assert {status for tries in found for _, status in tries} == {403}
