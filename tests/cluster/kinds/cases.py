"""One object of each kind, a change of it, and how to tell that the provider has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kube.resources import Resource
from reflection.kinds.configmap import CONFIG_MAP
from reflection.kinds.custom import Custom
from reflection.kinds.disruptionbudget import POD_DISRUPTION_BUDGET
from reflection.kinds.endpointslice import ENDPOINT_SLICE
from reflection.kinds.ingress import INGRESS
from reflection.kinds.model import Kind
from reflection.kinds.networkpolicy import NETWORK_POLICY
from reflection.kinds.secret import SECRET
from reflection.kinds.service import SERVICE
from reflection.kinds.serviceaccount import SERVICE_ACCOUNT
from tests.cluster.kinds.world import NODE, World

Json = dict[str, Any]
NAME = "web"
WIDGETS = Resource("example.org", "v1", "widgets", "Widget")
WIDGET = Custom(WIDGETS, status_back=True).kind()
REFLECT = {"offloading.isthmus.dev/reflect": "true"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the tests of all kinds need to know of one."""

    kind: Kind
    body: Json
    change: Json
    """A merge patch of it."""
    shown: Callable[[Json], bool]
    """Whether the provider's object is as `body` says."""
    changed: Callable[[Json], bool]
    """Whether it is as `body` with `change` says."""
    also: tuple[Kind, ...] = ()
    """Kinds that have to be reflected too."""
    before: tuple[tuple[Kind, Json], ...] = ()
    """Objects that have to be there first."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return (self.kind, *self.also)

    async def make(self, world: World) -> None:
        for kind, body in self.before:
            if await world.local(kind.resource, body["metadata"]["name"]) is None:
                await world.create(kind.resource, body)
        await world.create(self.kind.resource, self.body)


def service(name: str = NAME, **spec: Any) -> Json:
    made = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}], **spec}
    return {"metadata": {"name": name, "labels": {"app": name}}, "spec": made}


def slice_of(service: str = NAME, name: str = NAME, *endpoints: Json) -> Json:
    """A slice that a user makes; the first endpoint is at the provider, the other is not."""
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": list(endpoints)
        or [
            {"addresses": ["203.0.113.1"], "nodeName": NODE, "conditions": {"ready": True}},
            {"addresses": ["203.0.113.2"], "nodeName": "worker", "zone": "a", "conditions": {"ready": True}},
        ],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def addresses(found: Json) -> list[str]:
    return [address for endpoint in found["endpoints"] for address in endpoint["addresses"]]


PATH = {
    "path": "/",
    "pathType": "Prefix",
    "backend": {"service": {"name": NAME, "port": {"name": "http"}}},
}

CASES = (
    Case(
        kind=SERVICE,
        body=service(),
        change={"spec": {"sessionAffinity": "ClientIP"}, "metadata": {"labels": {"app": None, "tier": "front"}}},
        shown=lambda found: found["spec"]["ports"][0]["port"] == 80 and found["metadata"]["labels"].get("app") == NAME,
        changed=lambda found: (
            found["spec"]["sessionAffinity"] == "ClientIP"
            and "app" not in found["metadata"]["labels"]
            and found["metadata"]["labels"]["tier"] == "front"
        ),
    ),
    Case(
        kind=ENDPOINT_SLICE,
        also=(SERVICE,),
        before=((SERVICE, service(selector=None)),),
        body=slice_of(),
        change={"endpoints": [{"addresses": ["203.0.113.3"], "conditions": {"ready": False}}]},
        shown=lambda found: addresses(found) == ["203.0.113.2"] and found["endpoints"][0]["zone"] == "a",
        changed=lambda found: (
            addresses(found) == ["203.0.113.3"] and found["endpoints"][0]["conditions"]["ready"] is False
        ),
    ),
    Case(
        kind=CONFIG_MAP,
        body={"metadata": {"name": NAME, "labels": REFLECT}, "data": {"a": "1", "b": "2"}},
        change={"data": {"a": "3", "b": None}},
        shown=lambda found: bool(found["data"] == {"a": "1", "b": "2"}),
        changed=lambda found: bool(found["data"] == {"a": "3"}),
    ),
    Case(
        kind=SECRET,
        body={
            "metadata": {"name": NAME, "labels": REFLECT},
            "type": "kubernetes.io/basic-auth",
            "stringData": {"username": "a", "password": "b"},
        },
        change={"data": {"username": "Yw=="}},
        shown=lambda found: found["data"]["username"] == "YQ==" and found["type"] == "kubernetes.io/basic-auth",
        changed=lambda found: bool(found["data"]["username"] == "Yw=="),
    ),
    Case(
        kind=INGRESS,
        body={
            "metadata": {"name": NAME, "annotations": {"example.org/note": "1"}},
            "spec": {"ingressClassName": "near", "rules": [{"host": "web.example.org", "http": {"paths": [PATH]}}]},
        },
        change={"spec": {"rules": [{"host": "www.example.org", "http": {"paths": [PATH]}}]}},
        shown=lambda found: (
            found["spec"].get("ingressClassName") in ("far", "near")
            and found["spec"]["rules"][0]["host"] == "web.example.org"
        ),
        changed=lambda found: bool(found["spec"]["rules"][0]["host"] == "www.example.org"),
    ),
    Case(
        kind=NETWORK_POLICY,
        body={
            "metadata": {"name": NAME},
            "spec": {
                "podSelector": {"matchLabels": {"app": NAME}},
                "ingress": [{"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}], "ports": [{"port": "http"}]}],
            },
        },
        change={"spec": {"ingress": [{}]}},
        shown=lambda found: bool(found["spec"]["ingress"][0].get("ports")),
        changed=lambda found: bool(found["spec"]["ingress"] == [{}]),
    ),
    Case(
        kind=POD_DISRUPTION_BUDGET,
        body={"metadata": {"name": NAME}, "spec": {"minAvailable": 0, "selector": {"matchLabels": {"app": NAME}}}},
        change={"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}},
        shown=lambda found: found["spec"]["minAvailable"] == 0 and "unhealthyPodEvictionPolicy" not in found["spec"],
        changed=lambda found: bool(found["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow"),
    ),
    Case(
        kind=SERVICE_ACCOUNT,
        body={"metadata": {"name": NAME, "labels": {**REFLECT, "tier": "back"}}},
        change={"metadata": {"labels": {"tier": "front"}}},
        shown=lambda found: bool(found["metadata"]["labels"].get("tier") == "back"),
        changed=lambda found: bool(found["metadata"]["labels"]["tier"] == "front"),
    ),
    Case(
        kind=WIDGET,
        body={"metadata": {"name": NAME}, "spec": {"size": 1, "parts": ["a", "b"]}},
        change={"spec": {"size": 2, "parts": None}},
        shown=lambda found: bool(found["spec"] == {"size": 1, "parts": ["a", "b"]}),
        changed=lambda found: bool(found["spec"] == {"size": 2}),
    ),
)
