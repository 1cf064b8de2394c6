"""What a cluster of the lab is to be: names, addresses, folders. Pure data that every component is built from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploy.lab import gobuild
from deploy.lab.network import Site
from deploy.lab.process import UnitSpec

API_PORT = 6443
KUBELET_PORT = 10250
METRICS_PORT = 4443
CLUSTER_DOMAIN = "cluster.local"
HOLDER = "node-namespaces"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """One cluster."""

    lab: str
    name: str
    index: int
    """Decides the pod and service networks: one for each cluster of an instance, or 0 for all that shall be alike."""
    site: Site
    folder: Path
    """State folder of the cluster."""
    version: str
    """Kubernetes version."""
    nodes: int
    audit: str
    gc_percent: int
    apps: bool = False

    @property
    def pod_cidr(self) -> str:
        """Addresses of pods."""
        return f"10.{64 + self.index}.0.0/16"

    @property
    def service_cidr(self) -> str:
        """Addresses of Services."""
        return f"10.{128 + self.index}.0.0/16"

    @property
    def kubernetes_ip(self) -> str:
        """ClusterIP of the Service `kubernetes`: the first of the range."""
        return f"10.{128 + self.index}.0.1"

    @property
    def dns_ip(self) -> str:
        """ClusterIP of the Service `kube-dns`."""
        return f"10.{128 + self.index}.0.10"

    @property
    def node_name(self) -> str:
        """Name of the real node."""
        return f"{self.name}-node"

    @property
    def url(self) -> str:
        """The API server, from anywhere on the lab's network."""
        return f"https://{self.site.ip}:{API_PORT}"

    @property
    def group(self) -> str:
        """The control group of everything in the cluster."""
        return f"isthmus-lab/{self.lab}/{self.name}"

    @property
    def units(self) -> Path:
        """Folder of unit files, pids and logs."""
        return self.folder / "units"

    @property
    def pki(self) -> Path:
        """Folder of certificates."""
        return self.folder / "pki"

    @property
    def binaries(self) -> Path:
        """Folder of the Kubernetes programs."""
        return gobuild.kubernetes(self.version).target

    def kubeconfig(self, component: str) -> Path:
        """The kubeconfig of a component."""
        return self.folder / f"{component}.kubeconfig"

    def unit(self, name: str, *argv: str | Path, inside: str = "", group: str = "") -> UnitSpec:
        """A unit in the cluster's network and control group."""
        words = [str(part) for part in argv]
        below = f"{self.group}/{group or 'units'}"
        env = {"GOGC": str(self.gc_percent)}
        return UnitSpec(name=name, argv=words, netns=self.site.netns, group=below, env=env, inside=inside)

    def write(self, name: str, content: str) -> Path:
        """Write a configuration file into the cluster's folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path
