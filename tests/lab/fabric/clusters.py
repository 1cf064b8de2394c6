"""Two clusters as far as the fabric goes: real API servers, the product's manager, its agents where pods would be.

There are no kubelets: Nodes and the agents' Pods are declared, and a namespace stands for each. A node has a bridge as
a CNI makes it; a pod of the application and the gateways hang on it, and all that leaves is masqueraded; it has
kube-proxy's rules for a Service. Both clusters have the same addresses inside, of both families. Agents run as
`deploy/network` says, with the certificates that the manager made.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

from deploy import stack
from deploy.lab.cluster import LabCluster
from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from deploy.lab.process import Unit
from tests.kubectl import Kubectl, admin, eventually
from tests.lab.fabric import exchange, parallel
from tests.lab.fabric.agents import MANIFESTS, Agent, Json
from tests.lab.fabric.exchange import LONG
from tests.lab.fabric.places import Place, join, wait
from tests.lab.fabric.prefork import Prefork
from tests.lab.fabric.services import SERVICES, SERVICES6, proxy
from tests.lab.fabric.world import POD, POD6, PODS, PODS6, PORT, TRAFFIC, dropped, serving, streaming

EXTERNAL, EXTERNAL6 = "10.250.0.0/24", "fd25::/120"
NODE, NODE_PODS = "worker-1", ["10.244.1.0/24", "fd24:0:0:1::/64"]
NETWORKS = (PODS, SERVICES, EXTERNAL, PODS6, SERVICES6, EXTERNAL6)
SEEN = {
    "west": ("10.71.0.0/16", "10.171.0.0/16", "10.70.1.0/24", "fd71::/48", "fd71:96::/112", "fd71:25::/120"),
    "east": ("10.72.0.0/16", "10.172.0.0/16", "10.70.2.0/24", "fd72::/48", "fd72:96::/112", "fd72:25::/120"),
}
"""By cluster: how it sees the other's networks."""
PEER_PORT = 51820


class Side:
    """One cluster."""

    def __init__(
        self, name: str, lab: Lab, cluster: LabCluster, *, number: int, gateways: int, folder: Path, prefork: Prefork
    ) -> None:
        self.name, self.number = name, number
        self.cluster = cluster
        self.kubectl = admin(cluster, "isthmus")
        self.host = lab.add_host(f"manager-{name}")
        self.folder = folder / name
        self.node, self.pod = Place(f"{name}-node"), Place(f"{name}-pod")
        self.gateways = [Place(f"{name}-gateway-{index}") for index in range(1, gateways + 1)]
        node_agent = Agent(
            self.node, role="node", name=NODE, address=f"10.0.{number}.2", folder=self.folder, prefork=prefork
        )
        self.agents = {NODE: node_agent}
        for index, place in enumerate(self.gateways, start=1):
            name, address = f"gateway-{index}", f"10.244.1.{260 - 10 * number + index}"
            self.agents[name] = Agent(
                place, role="gateway", name=name, address=address, folder=self.folder, prefork=prefork
            )
        self._kubeconfig = self.folder / "kubeconfig"
        self.manager: Unit | None = None

    @property
    def places(self) -> list[Place]:
        return [self.node, self.pod, *self.gateways]

    @property
    def node_addresses(self) -> tuple[str, str]:
        """The node's own."""
        return self.agents[NODE].address, f"fd10:0:0:{self.number}::2"

    @property
    def remote(self) -> str:
        """The other side's pod."""
        return self.seen(POD)

    def seen(self, address: str) -> str:
        """How an address of the other side's is called here."""
        wanted = ip_address(address)
        for real, seen in zip(map(ip_network, NETWORKS), map(ip_network, SEEN[self.name]), strict=True):
            if wanted in real:
                return str(seen[int(wanted) - int(real[0])])
        raise AssertionError(f"{address} is in none of {NETWORKS}")

    def wire(self, router: Place) -> None:
        """The node with its uplink and bridge, pods on it, and the way from the manager."""
        join(router, f"to-{self.name}", self.node, "wan")
        number = self.number
        router.ip(
            f"address add 10.0.{number}.1/24 dev to-{self.name}",
            f"address add fd10:0:0:{number}::1/64 dev to-{self.name} nodad",
        )
        self.node.ip(
            f"address add 10.0.{number}.2/24 dev wan",
            f"address add {self.node_addresses[1]}/64 dev wan nodad",
            f"route add default via 10.0.{number}.1",
            f"route add default via fd10:0:0:{number}::1",
            "link add cni0 type bridge forward_delay 0",
            "address add 10.244.1.1/24 dev cni0",
            "address add fd24:0:0:1::1/64 dev cni0 nodad",
            "link set cni0 up",
        )
        for index, place in enumerate([self.pod, *self.gateways]):
            join(self.node, f"pod{index}", place, "eth0")
            self.node.ip(f"link set pod{index} master cni0")
            self.address(place)
        for place in (self.node, *self.gateways):
            place.forward()
        self.node.run(["nft", "-f", "-"], stdin=_CNI)
        proxy(self.node)
        site = self.host.site
        site.run(["ip", "link", "add", "node", "type", "veth", "peer", "name", "manager", "netns", str(self.node.pid)])
        site.run(["ip", "address", "add", "10.9.9.1/30", "dev", "node"])
        self.node.ip("address add 10.9.9.2/30 dev manager", "link set manager up")
        site.run(["ip", "link", "set", "node", "up"])
        for network in (PODS, f"10.0.{self.number}.0/24"):
            site.run(["ip", "route", "add", network, "via", "10.9.9.2"])

    def address(self, pod: Place) -> None:
        """Give a pod its addresses and ways out, as far as it has none: a link that goes down loses some."""
        known = {self.pod: (POD, POD6)}
        for agent in self.agents.values():
            known[agent.place] = (agent.address, f"fd24:0:0:1::{agent.address.rpartition('.')[2]}")
        own, own6 = known[pod]
        pod.ip(
            f"address replace {own}/24 dev eth0",
            f"address replace {own6}/64 dev eth0 nodad",
            "route replace default via 10.244.1.1",
            "route replace default via fd24:0:0:1::1",
        )

    def also_at(self, address: str) -> None:
        """Give the pod another address, which is the source of nothing but answers from there."""
        length = ip_address(address).max_prefixlen
        self.pod.ip(f"address replace {address}/{length} dev eth0 nodad preferred_lft 0")

    def prepare(self) -> None:
        """CRDs, roles, a Node and the agents' Pods."""
        own, anywhere = self.kubectl, Kubectl(self.kubectl.binary, self.kubectl.kubeconfig, "")
        own.run("apply", "--server-side", "--force-conflicts", "-k", str(stack.CRDS))
        for file in ("namespace", "account"):
            anywhere.run("apply", "--server-side", "-f", str(stack.MANAGER / f"base/{file}.yaml"))
        for file in ("namespace", "rbac"):
            anywhere.run("apply", "--server-side", "-f", str(MANIFESTS / f"{file}.yaml"))
        own.run("wait", "--for=condition=Established", "crd", "--all")
        eventually(lambda: own.run("get", "networkpeerings") is not None, what="networkpeerings")
        self.cluster.wait_service_account("isthmus-network")
        own.create({**_object("Node", NODE), "spec": {"podCIDR": NODE_PODS[0], "podCIDRs": NODE_PODS}})
        addresses = [{"type": "InternalIP", "address": address} for address in self.node_addresses]
        self._tell("node", NODE, {"addresses": addresses})
        for agent in self.agents.values():
            self.declare(agent)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.cluster.client_kubeconfig(stack.MANAGER_USER, path=self._kubeconfig)

    def declare(self, agent: Agent) -> None:
        """An agent's Pod, with the labels of `deploy/network`, said to run."""
        spec: Json = {"containers": [{"name": "agent", "image": "none"}], "automountServiceAccountToken": False}
        spec |= {"nodeName": NODE, "hostNetwork": True} if agent.role == "node" else {"schedulerName": "nobody"}
        labels = {"app.kubernetes.io/component": f"fabric-{agent.role}"}
        pods = Kubectl(self.kubectl.binary, self.kubectl.kubeconfig, "isthmus-network")
        pods.create(
            {**_object("Pod", f"agent-{agent.name}" if agent.role == "node" else agent.name, labels), "spec": spec}
        )
        status = {"phase": "Running", "podIP": agent.address, "podIPs": [{"ip": agent.address}]}
        name = f"agent-{agent.name}" if agent.role == "node" else agent.name
        pods.run("patch", "pod", name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))

    def retire(self, agent: Agent) -> None:
        """Its Pod is gone."""
        pods = Kubectl(self.kubectl.binary, self.kubectl.kubeconfig, "isthmus-network")
        pods.delete("pod", agent.name, "--grace-period=0", "--force")

    def start_manager(self) -> None:
        """`isthmus manager --module=network`, with its own rights."""
        argv = [
            sys.executable,
            "-P",
            "-m",
            "isthmus",
            "manager",
            "--module=network",
            f"--kubeconfig={self._kubeconfig}",
        ]
        # The Lease of one that was killed is over soon.
        argv += [f"--identity={self.name}", "--health-listen=", "--lease-seconds=6"]
        self.manager = self.host.start("manager", argv, env={"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"})

    def start_agents(self) -> None:
        """With the certificates that the manager made."""
        pods = Kubectl(self.kubectl.binary, self.kubectl.kubeconfig, "isthmus-network")
        for agent in self.agents.values():
            agent.certify(pods.wait_for("secret", f"isthmus-fabric-{agent.role}"))
            agent.start()

    def declare_peering(self, peer: str) -> None:
        """This side's half."""
        local: Json = {"podCIDRs": [PODS, PODS6], "serviceCIDRs": [SERVICES, SERVICES6]}
        local["externalCIDRs"] = [EXTERNAL, EXTERNAL6]
        if self.name == "east":
            local["endpoints"] = [f"10.0.{self.number}.2:{PEER_PORT}"]  # the west dials
        seen = zip(NETWORKS, SEEN[self.name], strict=True)
        spec = {"local": local, "port": PEER_PORT, "trafficPolicy": "WholeCluster"}
        spec["remap"] = [{"cidr": cidr, "seenAs": other} for cidr, other in seen]
        kind = "NetworkPeering"
        self.kubectl.apply(
            {"apiVersion": "networking.isthmus.dev/v1alpha1", "kind": kind, "metadata": {"name": peer}, "spec": spec}
        )

    def allow(self, peer: str, policy: str) -> None:
        """Change what may pass."""
        patch = json.dumps({"spec": {"trafficPolicy": policy}})
        self.kubectl.run("patch", "networkpeering", peer, "--type=merge", "-p", patch)

    def export(self, peer: str) -> str:
        """What `isthmus network export` prints once it can."""
        return exchange.export(self.kubectl, peer, named=self.name)

    def take(self, peer: str, manifest: str) -> None:
        """What the header of an export says to do."""
        exchange.take(self.kubectl, peer, manifest)

    def until(self, peer: str, kind: str, holds: Callable[[Json], object], *, what: str) -> Json:
        """The peering's status once a condition of it is so."""

        def met(found: Json) -> bool:
            return any(one["type"] == kind and holds(one) for one in found["status"]["conditions"])

        return dict(self.kubectl.wait_for("networkpeering", peer, met, what=what, timeout=LONG)["status"])

    def active(self, peer: str) -> str:
        """The gateway that packets go through."""
        status: Json = self.kubectl.get("networkpeering", peer)["status"]
        return str(status.get("connection", {}).get("gateway", ""))

    def sharing(self, peer: str) -> set[str]:
        """The links by which the active gateway sends to a peer."""
        number = self.kubectl.get("networkpeering", peer)["status"]["number"]
        gateway = self.agents[self.active(peer)].place
        return parallel.links(gateway, "-4", table=7_300_000 + number)

    def dropped(self, name: str) -> int:
        """Packets that gateways dropped for a reason."""
        return sum(dropped(place, name) for place in self.gateways)

    def pings(self) -> bool:
        """Whether the other side's pod answers the pod."""
        return self.pod.succeeds(["ping", "-q", "-c", "1", "-W", "2", self.remote])

    def asks(self, *words: str | int, place: Place | None = None) -> str:
        """What traffic.py says in the pod, or another place."""
        return (place or self.pod).run([sys.executable, TRAFFIC, *(str(word) for word in words)]).strip()

    @property
    def words(self) -> str:
        """The ends of all logs, for who looks for a failure's cause."""
        manager = self.manager.log_tail() if self.manager is not None else ""
        agents = (f"-- {self.name} {agent.name}\n{agent.log}" for agent in self.agents.values())
        return "\n".join((f"-- {self.name} manager\n{manager}", *agents))

    def close(self) -> None:
        """End agents and places; the lab ends the manager."""
        for agent in self.agents.values():
            agent.end(signal.SIGKILL)
        for place in self.places:
            place.close()

    def _tell(self, kind: str, name: str, status: Json) -> None:
        patch = json.dumps({"status": status})
        self.kubectl.run("patch", kind, name, "--subresource=status", "--type=merge", "-p", patch)


class Clusters:
    """Both, and the router between, which lets only the west dial."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.router = Place("underlay")
        self.prefork = Prefork()
        # The side that dials has a gateway in reserve: the other one sees it come from wherever it is.
        self.west = Side("west", lab, lab.consumer, number=1, gateways=2, folder=folder, prefork=self.prefork)
        self.east = Side("east", lab, lab.provider, number=2, gateways=1, folder=folder, prefork=self.prefork)
        self._servers = ExitStack()

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.west, self.east

    def up(self) -> None:
        """Managers and agents run; nothing is declared yet."""
        self.router.forward()
        for side in self.sides:
            side.prepare()
            side.start_manager()
            side.wire(self.router)
            self._servers.enter_context(serving(side.pod, PORT))
        self.router.run(["nft", "-f", "-"], stdin=_ONE_WAY)
        self.east.node.run(["nft", "-f", "-"], stdin=_GATEWAY_SERVICE)
        for side in self.sides:
            side.start_agents()

    def peer(self) -> None:
        """Declare on both sides, exchange, and wait until both say that it works."""
        (west, east), names = self.sides, ("east", "west")
        for side, peer in zip(self.sides, names, strict=True):
            side.declare_peering(peer)
        east.take("west", west.export("east"))
        west.take("east", east.export("west"))
        # How each sees the other is known now, and is told in a second exchange.
        east.take("west", west.export("east"))
        for side, peer in zip(self.sides, names, strict=True):
            side.until(peer, "Ready", _is_true, what=f"{side.name} to be Ready")

    def tunnels(self, count: int) -> None:
        """Declare so many on both sides, exchange, and wait until flows are spread over them."""
        (west, east), patch = self.sides, json.dumps({"spec": {"tunnels": count}})
        for side, peer in ((west, "east"), (east, "west")):
            side.kubectl.run("patch", "networkpeering", peer, "--type=merge", "-p", patch)
        east.take("west", west.export("east"))
        west.take("east", east.export("west"))
        for side, peer in ((west, "east"), (east, "west")):
            wait(lambda s=side, p=peer: len(s.sharing(p)) == count, what=f"{count} tunnels", timeout=LONG)  # type: ignore[misc]

    @contextmanager
    def stream(self, *, verb: str = "stream") -> Iterator[Json]:
        """A TCP stream from the west's pod to the east's, or with `beat` datagrams."""
        with streaming(self.west.pod, self.west.remote, verb=verb) as found:
            yield found

    def down(self) -> None:
        """End all of it; logs to standard output, which is shown if a test failed."""
        for side in self.sides:
            sys.stdout.write(side.words + "\n")
        self._servers.close()
        for side in self.sides:
            side.close()
        self.prefork.close()
        self.router.close()


def _is_true(condition: Json) -> bool:
    return bool(condition["status"] == "True")


def _object(kind: str, name: str, labels: dict[str, str] | None = None) -> Json:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels or {}}}


_CNI = f"""
table inet cni {{
    chain post {{
        type nat hook postrouting priority srcnat;
        ip saddr {PODS} ip daddr != {PODS} masquerade
        ip6 saddr {PODS6} ip6 daddr != {PODS6} masquerade
    }}
}}
"""
_ONE_WAY = """
table ip firewall {
    chain forward { type filter hook forward priority 0; iifname "to-east" ct state new drop; }
}
"""
# What kube-proxy makes of the gateway's Service, of which the active gateway is the only endpoint.
_GATEWAY_SERVICE = f"""
table ip gateway {{
    chain pre {{
        type nat hook prerouting priority dstnat;
        ip daddr 10.0.2.2 udp dport {PEER_PORT}-{PEER_PORT + 7} dnat to 10.244.1.241;
    }}
}}
"""
