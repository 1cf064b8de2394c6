"""`isthmus peer`: writes and applies the manifests of a peering, which `kubectl apply` does as well.

With the consumer's kubeconfig alone it prints the Tenant for the provider; with both it does it all and shows progress.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import yaml
from msgspec import Meta

from api.authentication.definitions import IDENTITIES, TENANTS
from api.authentication.identity import Identity
from api.authentication.tenant import Tenant
from api.meta import condition
from isthmus.options import LogOptions, OptionsError
from kube import config
from kube.client import Client
from kube.errors import ApiError, KubeError
from kube.resources import Resource

T = TypeVar("T", Identity, Tenant)
FIELD_MANAGER = "isthmus-peer"
EVERY = 0.5


class PeerOptions(LogOptions, kw_only=True, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """What the user may set; each description is the flag's help."""

    name: Annotated[str, Meta(description="short name of the provider: that of the Identity")]
    kubeconfig: Annotated[str, Meta(description="kubeconfig of the consumer; empty: the usual one")] = ""
    provider_kubeconfig: Annotated[
        str, Meta(description="kubeconfig of the provider, for both sides at once; empty: print the Tenant for it")
    ] = ""
    timeout: Annotated[float, Meta(description="seconds to wait for each step", gt=0)] = 120.0


async def run(options: PeerOptions) -> None:
    """Print or do. Raises `OptionsError` with what did not come about."""
    try:
        credentials = await config.load(kubeconfig=options.kubeconfig or None)
        async with Client.connect(credentials, name="consumer") as consumer:
            tenant = await _ask(consumer, options)
            if not options.provider_kubeconfig:
                sys.stdout.write(tenant)
                return
            theirs = await config.load(kubeconfig=options.provider_kubeconfig)
            async with Client.connect(theirs, name="provider") as provider:
                await _both(consumer, provider, tenant, options)
    except KubeError as error:
        raise OptionsError(str(error)) from error


async def _ask(consumer: Client, options: PeerOptions) -> str:
    """The Tenant that the provider has to apply."""
    try:
        await consumer.get(IDENTITIES, name=options.name)
    except ApiError as error:
        if not error.not_found:
            raise
        body = {
            "apiVersion": IDENTITIES.api_version,
            "kind": IDENTITIES.kind,
            "metadata": {"name": options.name},
            "spec": {"method": "Exchange"},
        }
        await _apply(consumer, IDENTITIES, body)
        _say(f"consumer: Identity {options.name} applied")
    found = await until(
        lambda: consumer.get(IDENTITIES, name=options.name, decode=Identity),
        lambda it: bool(it.status.tenant),
        "consumer: the manager (module peers) to make a key and a request",
        timeout=options.timeout,
    )
    return found.status.tenant


async def _both(consumer: Client, provider: Client, tenant: str, options: PeerOptions) -> None:
    asked = yaml.safe_load(tenant)
    name = str(asked["metadata"]["name"])
    await _apply(provider, TENANTS, asked)
    _say(f"provider: Tenant {name} applied")
    let_in = await until(
        lambda: provider.get(TENANTS, name=name, decode=Tenant),
        lambda it: bool(it.status.identity) and it.status.observed_generation == it.metadata.generation,
        "provider: the manager (module tenants) to let it in",
        timeout=options.timeout,
    )
    await _apply(consumer, IDENTITIES, yaml.safe_load(let_in.status.identity))
    _say(f"consumer: Identity {options.name} applied as the provider answered")
    ready = await until(
        lambda: consumer.get(IDENTITIES, name=options.name, decode=Identity),
        lambda it: _is(it, "True") and it.status.observed_generation == it.metadata.generation,
        "consumer: to be let in at the provider",
        timeout=options.timeout,
    )
    _say(f"done: VirtualNodes use the Secret {ready.status.kubeconfig_secret} until {ready.status.expires} and after")


async def _apply(client: Client, resource: Resource, body: dict[str, Any]) -> None:
    await client.apply(resource, body, name=body["metadata"]["name"], field_manager=FIELD_MANAGER)


async def until(read: Callable[[], Awaitable[T]], holds: Callable[[T], bool], what: str, *, timeout: float) -> T:
    """What is read once `holds` is true of it. Raises `OptionsError` with what its condition says after `timeout` s."""
    _say(f"waiting for {what}")
    found: T | None = None
    try:
        async with asyncio.timeout(timeout):
            while True:
                found = await read()
                if holds(found):
                    return found
                await asyncio.sleep(EVERY)
    except TimeoutError:
        said = condition(found.status.conditions, "Ready") if found is not None else None
        why = f"; its condition says {said.reason}: {said.message}" if said is not None else ""
        raise OptionsError(f"waited {timeout:.0f} s for {what}{why}") from None


def _is(found: Identity, status: str) -> bool:
    said = condition(found.status.conditions, "Ready")
    return said is not None and said.status == status


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
