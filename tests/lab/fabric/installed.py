"""Two clusters of real kubelets in which isthmus and its fabric are installed as users do it, by kubectl alone.

Both have the same pod and service networks. The consumer dials; the provider is reached at a node port of the Service
of its gateways. Nodes are looked at from outside only to see that nothing is left there.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from deploy import stack
from deploy.lab import isthmus_image
from deploy.lab.cluster import LabCluster
from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from tests.kubectl import Kubectl, admin
from tests.lab.fabric import exchange
from tests.lab.uninstall import delete_until_allowed, uninstall

Json = dict[str, Any]

AGENTS = str(ROOT / "deploy/network")
LONG = 120.0
CONSUMER, PROVIDER = "consumer", "provider"
"""Names of the clusters, of the consumer at the provider, and of each one's NetworkPeering with the other."""
_LOOK = (
    "ip -o link | grep 'alias isthmus'; ip route show table all proto 73; ip -6 route show table all proto 73; "
    "ip rule | grep 'lookup 73'; nft list tables | grep 'inet isthmus$'; true"
)


class Side:
    """One cluster."""

    def __init__(self, cluster: LabCluster, *, peer: str, manager: str) -> None:
        self.cluster, self.peer, self.manager = cluster, peer, manager
        self.own, self.agents = admin(cluster, "isthmus"), admin(cluster, "isthmus-network")
        self.anywhere = Kubectl(self.own.binary, self.own.kubeconfig, "")

    def install(self) -> None:
        """The manager, then the agents that it drives."""
        isthmus_image.load(self.cluster)
        for folder in (self.manager, AGENTS):
            self.anywhere.run("apply", "--server-side", "-k", folder)

    def uninstall(self) -> None:
        """Once the NetworkPeerings are gone."""
        delete_until_allowed(self.anywhere, AGENTS)
        uninstall(self.own, self.manager)

    def wait_agents(self) -> None:
        """Until the pods of all agents are Ready."""
        for one in ("daemonset/isthmus-fabric", "deployment/isthmus-gateway"):
            self.agents.run("rollout", "status", one, f"--timeout={LONG:.0f}s", timeout=LONG + 10)

    def declare(self, *endpoints: str) -> None:
        """This side's half of the peering."""
        plan = self.cluster.plan
        local: Json = {"podCIDRs": [plan.pod_cidr], "serviceCIDRs": [plan.service_cidr]}
        if endpoints:
            local["endpoints"] = list(endpoints)
        kind = {"apiVersion": "networking.isthmus.dev/v1alpha1", "kind": "NetworkPeering"}
        self.own.apply({**kind, "metadata": {"name": self.peer}, "spec": {"local": local}})

    def endpoint(self) -> str:
        """Where gateways are reached from outside, as the Service tells."""
        ports = self.agents.get("service", "isthmus-gateway")["spec"]["ports"]
        return f"{self.cluster.plan.site.ip}:{ports[0]['nodePort']}"

    def connected(self) -> Json:
        """The peering's status once packets pass."""
        wait = ("wait", "--for=condition=Ready", f"--timeout={LONG:.0f}s", f"networkpeering/{self.peer}")
        self.own.run(*wait, timeout=LONG + 10)
        return dict(self.own.get("networkpeering", self.peer)["status"])

    def status(self, pod: str) -> str:
        """What an agent says of itself; KubectlError if something is amiss."""
        return self.agents.run("exec", pod, "--", "isthmus", "fabric-agent", "status")

    def refused(self) -> int:
        """Packets that no policy names, as the gateway's kernel counts them that carries packets."""
        gateway = self.connected()["connection"]["gateway"]
        said = self.agents.run("exec", gateway, "--", "nft", "-j", "list", "counters", "table", "inet", "isthmus")
        found = (one["counter"] for one in json.loads(said)["nftables"] if "counter" in one)
        return sum(one["packets"] for one in found if one["name"].startswith("policy_"))

    def left(self) -> str:
        """What is isthmus's on the node."""
        return self.cluster.plan.site.run(["sh", "-c", _LOOK])


class Installed:
    """Both."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.consumer = Side(lab.consumer, peer=PROVIDER, manager=_with_network("deploy/manager/consumer", folder))
        self.provider = Side(lab.provider, peer=CONSUMER, manager=str(ROOT / "deploy/manager/network"))

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.consumer, self.provider

    def up(self, folder: Path) -> None:
        """Installed on both sides, a virtual node declared, and the networks peered."""
        with ThreadPoolExecutor() as pool:
            done = [pool.submit(side.install) for side in self.sides]
            stack.grant(self.lab.provider, consumer_id=CONSUMER)
            stack.elect(self.lab.provider, consumer_id=CONSUMER)
            for one in done:
                one.result()
        self.borrow(folder)
        self.peer()

    def borrow(self, folder: Path) -> None:
        """A VirtualNode of the provider, which has the NetworkPeering's name."""
        file = self.lab.provider.client_kubeconfig(stack.provider_user(CONSUMER), path=folder / "kubeconfig")
        self.consumer.own.run("create", "secret", "generic", PROVIDER, f"--from-file={file}")
        spec: Json = {"provider": PROVIDER, "kubeconfigSecret": {"name": PROVIDER}}
        spec["resources"] = {"cpu": "2", "memory": "4Gi", "pods": 20}
        kind = {"apiVersion": "offloading.isthmus.dev/v1alpha1", "kind": "VirtualNode"}
        self.consumer.own.apply({**kind, "metadata": {"name": "virtual"}, "spec": spec})

    def peer(self) -> None:
        """Both halves, exchanged as their exports say; the second time each tells how it sees the other."""
        self.consumer.declare()
        self.provider.declare(self.provider.endpoint())
        for _ in range(2):
            for teller, hearer in (self.sides, self.sides[::-1]):
                told = exchange.export(teller.own, teller.peer, named=hearer.peer)
                exchange.take(hearer.own, hearer.peer, told)

    def unpeer(self) -> None:
        """Networks and virtual node go; agents stay."""
        self.consumer.own.delete("virtualnodes", "--all", timeout=LONG)
        for side in self.sides:
            side.own.delete("networkpeerings", "--all")

    def uninstall(self) -> None:
        """Agents first, then what drove them; on both sides at once."""
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(side.uninstall) for side in self.sides]:
                done.result()


def _with_network(manager: str, folder: Path) -> str:
    """A kustomization of the administrator's own: a manager, and the network's module."""
    made = folder / "manager"
    made.mkdir()
    own = {"resources": [manager], "components": ["deploy/network/module"]}
    own = {kind: [os.path.relpath(ROOT / path, made) for path in paths] for kind, paths in own.items()}
    (made / "kustomization.yaml").write_text(yaml.safe_dump(own))
    return str(made)


def dial(pod: Kubectl, name: str, target: str, protocol: str, request: str) -> Json:
    """What a pod hears from another one that it asks; `agnhost netexec` runs in both."""
    host, _, port = target.rpartition(":")
    query = f"host={host}&port={port}&protocol={protocol}&request={quote(request)}&tries=1"
    said = pod.run("exec", name, "--", "wget", "-qO-", f"http://127.0.0.1:8080/dial?{query}")
    found: Json = json.loads(said)
    return found
