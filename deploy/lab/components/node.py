"""The real node of a cluster: containerd, kubelet, kube-proxy, inside mount and cgroup namespaces of their own.

The namespaces are the point. Kubelet, containerd and CNI have paths that no flag moves (/run/containerd/s,
/var/lib/kubelet/device-plugins, /var/lib/cni/results, /var/log/containers), and cAdvisor watches every control group
it sees. Here each node has its own of all of them at the usual places, two nodes do not meet, and every mount goes when
the last process does.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import yaml

from deploy.lab import cgroups
from deploy.lab.images import PAUSE_IMAGE
from deploy.lab.packages import CNI_PLUGINS
from deploy.lab.plan import CLUSTER_DOMAIN, HOLDER, KUBELET_PORT, ClusterPlan
from deploy.lab.process import UnitSpec

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
PRIVATE_FOLDERS = (
    "/var/lib/kubelet",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/run/containerd",
    "/var/log/pods",
    "/var/log/containers",
    # deploy/network/node.yaml keeps an agent's state there.
    "/var/lib/isthmus-fabric",
)
"""Folders of which a node has its own, bound over the machine's (made as mount points where absent)."""


def holder(plan: ClusterPlan) -> UnitSpec:
    """The process that holds the node's namespaces; the others enter them. It says it is ready by a file."""
    script = _namespace_script(plan, mounts=_cgroup_mounts())
    # The group this starts in becomes the root of the cgroup namespace: the cluster's, not units below it.
    spec = plan.unit(HOLDER, "unshare", "--mount", "--cgroup", "--propagation=unchanged", "sh", "-euc", script)
    return UnitSpec(name=spec.name, argv=spec.argv, netns=spec.netns, group=plan.group)


def holder_ready(plan: ClusterPlan) -> Path:
    """The file that appears when the namespaces are complete."""
    return plan.folder / "node-namespaces-ready"


def containerd(plan: ClusterPlan) -> UnitSpec:
    """containerd with the CRI plugin and the lab's CNI configuration."""
    plan.write("cni/10-lab.conflist", json.dumps(_cni(plan)))
    config = plan.write("containerd.toml", _containerd_config(plan))
    return plan.unit("containerd", "containerd", "--config", config, inside=HOLDER)


def kubelet(plan: ClusterPlan) -> UnitSpec:
    """The kubelet, with the serving certificate that the API server verifies."""
    resolv = plan.write("resolv.conf", f"nameserver {plan.dns_ip}\n")
    config = plan.write("kubelet.yaml", yaml.safe_dump(kubelet_configuration(plan, resolv)))
    return plan.unit(
        "kubelet",
        plan.binaries / "kubelet",
        f"--config={config}",
        f"--kubeconfig={plan.kubeconfig('kubelet')}",
        f"--hostname-override={plan.node_name}",
        f"--node-ip={plan.site.ip}",
        inside=HOLDER,
    )


def kube_proxy(plan: ClusterPlan) -> UnitSpec:
    """Services, by nftables in the cluster's network namespace."""
    return plan.unit(
        "kube-proxy",
        plan.binaries / "kube-proxy",
        f"--kubeconfig={plan.kubeconfig('kube-proxy')}",
        "--proxy-mode=nftables",
        f"--cluster-cidr={plan.pod_cidr}",
        f"--hostname-override={plan.node_name}",
        # The limits are the machine's, not the namespace's: leave them.
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    )


def kubelet_configuration(plan: ClusterPlan, resolv: Path) -> dict[str, Any]:
    """KubeletConfiguration: as shipped, but for what a shared small machine needs."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": plan.site.ip,
        "port": KUBELET_PORT,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(plan.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(plan.pki / "kubelet-serving.crt"),
        "tlsPrivateKeyFile": str(plan.pki / "kubelet-serving.key"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": ["pods"],
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [plan.dns_ip],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(resolv),
        # A disk that others fill must not evict the lab's pods or collect its images, which can't be pulled again.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        "maxPods": 250,
        "serializeImagePulls": False,
        # Changed ConfigMaps and Secrets reach mounted volumes within this (1m as shipped).
        "syncFrequency": "10s",
    }


def _cni(plan: ClusterPlan) -> dict[str, Any]:
    # ptp, not bridge: no pod reaches its neighbour without passing the rules of kube-proxy.
    ranges = [[{"subnet": plan.pod_cidr}]]
    ptp = {
        "type": "ptp",
        "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]},
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "lab", "plugins": [ptp, portmap]}


def _containerd_config(plan: ClusterPlan) -> str:
    return f"""version = 2
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing",
]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{plan.folder / "cni"}"
"""


def _cgroup_mounts() -> list[str]:
    """Shell lines that mount the hierarchies as the cgroup namespace shows them."""
    if cgroups.unified():
        return [f"mount -t cgroup2 cgroup2 {cgroups.MOUNT}"]
    lines = [f"mount -t tmpfs -o mode=755 cgroup {cgroups.MOUNT}"]
    for root in cgroups.hierarchies():
        if root.name == "unified":
            continue
        options = "none,name=systemd" if root.name == "systemd" else root.name
        lines += [f"mkdir {root}", f"mount -t cgroup -o {options} cgroup {root}"]
    return lines


def _namespace_script(plan: ClusterPlan, *, mounts: list[str]) -> str:
    units = [folder / "cgroup.procs" for folder in cgroups.Group(f"{plan.group}/units").folders()]
    lines = [
        # Join the units' group by the machine's view, before that view is gone.
        *(f"echo $$ >{shlex.quote(str(file))}" for file in units),
        # What the machine unmounts goes here too; what is mounted here stays here.
        "mount --make-rslave /",
        "mount --make-rshared /",
        f"umount -R -l {cgroups.MOUNT}",
        *mounts,
    ]
    for target in PRIVATE_FOLDERS:
        source = plan.folder / "node" / target.strip("/").replace("/", "-")
        lines += [f"mkdir -p {shlex.quote(str(source))}", f"mount --bind {shlex.quote(str(source))} {target}"]
    lines += [f"touch {shlex.quote(str(holder_ready(plan)))}", "exec sleep infinity"]
    return "\n".join(lines)
