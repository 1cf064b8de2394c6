"""`isthmus peer invite`: lets one consumer become a Tenant by itself, and prints what it has to apply.

Run with the provider's kubeconfig. What is printed holds a token, which is good once and for a short time: it is kept
nowhere at the provider, and should go to the consumer's administrator the way that secrets do.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import yaml
from msgspec import Meta

from api.authentication.definitions import TENANTS
from api.authentication.tenant import Tenant
from api.meta import seconds
from identity import documents, names, requests
from isthmus.options import LogOptions, OptionsError
from isthmus.peer import FIELD_MANAGER, until
from kube import config
from kube.client import Client
from kube.errors import KubeError
from kube.resources import SERVICE_ACCOUNTS

_LEAST_SECONDS = 600
"""No API server issues tokens for less; the invitation itself may end sooner."""


class InviteOptions(LogOptions, kw_only=True, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """What the user may set; each description is the flag's help."""

    consumer_id: Annotated[str, Meta(description="id of the consumer: that of the Tenant that is made")]
    name: Annotated[str, Meta(description="short name of this provider: that of the consumer's Identity")] = "provider"
    kubeconfig: Annotated[str, Meta(description="kubeconfig of the provider; empty: the usual one")] = ""
    duration: Annotated[str, Meta(description="how long the invitation is good, as 1h or 30m")] = "1h"
    resource: Annotated[
        list[str], Meta(description="name=amount that all pods of the consumer together may request")
    ] = []  # noqa: RUF012 - msgspec makes a new one each time
    slice_class: Annotated[list[str], Meta(description="class of ResourceSlices that the consumer may ask for")] = []  # noqa: RUF012
    namespace: Annotated[str, Meta(description="namespace of isthmus at the consumer")] = "isthmus"
    timeout: Annotated[float, Meta(description="seconds to wait for the provider's manager", gt=0)] = 60.0


async def run(options: InviteOptions) -> None:
    """Invite, and print. Raises `OptionsError` with what did not come about."""
    body = tenant(options, now=datetime.now(UTC))
    try:
        credentials = await config.load(kubeconfig=options.kubeconfig or None)
        async with Client.connect(credentials, name="provider") as provider:
            name = options.consumer_id
            await provider.apply(TENANTS, body, name=name, field_manager=FIELD_MANAGER)
            found = await until(
                lambda: provider.get(TENANTS, name=name, decode=Tenant),
                lambda it: bool(it.status.invited and it.status.identity),
                "the provider's manager (module tenants) to open the invitation",
                timeout=options.timeout,
            )
            token = await _token(provider, found, options)
    except KubeError as error:
        raise OptionsError(str(error)) from error
    sys.stdout.write(manifest(found, token, options))


def tenant(options: InviteOptions, *, now: datetime) -> dict[str, Any]:
    """The Tenant with its invitation. Raises `OptionsError`."""
    expires = requests.timestamp(now + _life(options))
    spec: dict[str, Any] = {"invitation": {"expires": expires, "identity": options.name}}
    for text in options.resource:
        name, equals, amount = text.partition("=")
        if not (name and equals and amount):
            raise OptionsError(f"--resource {text!r}: expected name=amount, as cpu=8")
        spec.setdefault("resources", {})[name] = amount
    if options.slice_class:
        spec["classes"] = list(options.slice_class)
    return {
        "apiVersion": TENANTS.api_version,
        "kind": TENANTS.kind,
        "metadata": {"name": options.consumer_id},
        "spec": spec,
    }


def manifest(found: Tenant, token: str, options: InviteOptions) -> str:
    """What the consumer applies: a Secret with the token, and the Identity that uses it."""
    identity = yaml.safe_load(found.status.identity)
    entry = identity["spec"]["invitation"]
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": entry["name"], "namespace": options.namespace},
        "stringData": {entry["key"]: token},
    }
    return f"{documents.text(secret)}---\n{found.status.identity}"


async def _token(provider: Client, found: Tenant, options: InviteOptions) -> str:
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": int(max(_life(options).total_seconds(), _LEAST_SECONDS))},
    }
    answer = await provider.create(
        SERVICE_ACCOUNTS,
        body,
        name=found.status.invited,
        namespace=names.tenant_namespace(found.consumer_id),
        subresource="token",
    )
    return str(answer["status"]["token"])


def _life(options: InviteOptions) -> timedelta:
    try:
        return timedelta(seconds=seconds(options.duration))
    except ValueError as error:
        raise OptionsError(f"--duration: {error}") from error
