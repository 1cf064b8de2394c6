"""One real Kubernetes cluster: its identities, the order in which its programs start, and what counts as ready."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from deploy.lab import images, kubeconfig, pki
from deploy.lab.api import Api, StatusError
from deploy.lab.components import addons, apps, control_plane, kwok, node
from deploy.lab.console import run
from deploy.lab.errors import LabError
from deploy.lab.plan import HOLDER, ClusterPlan
from deploy.lab.process import Unit, UnitSpec, wait_until

READY_TIMEOUT = 120.0
ADMIN = "lab:admin"
_MASTERS = ("system:masters",)


class LabCluster:
    """A cluster by its plan; running or not is told by its state folder, so any process may hold one."""

    def __init__(self, plan: ClusterPlan) -> None:
        self.plan = plan

    @property
    def name(self) -> str:
        """consumer, provider, provider-2, ..."""
        return self.plan.name

    @property
    def url(self) -> str:
        """The API server's address."""
        return self.plan.url

    @cached_property
    def ca(self) -> pki.Authority:
        """The authority of the cluster: servers, clients and kubelets."""
        return pki.Authority(self.plan.pki, name="ca")

    @cached_property
    def api(self) -> Api:
        """Requests as the administrator."""
        return self.api_at(self.url)

    def api_at(self, url: str) -> Api:
        """Requests as the administrator by another address, such as a relay's."""
        pair = pki.PairFiles(self.plan.pki / "admin.crt", self.plan.pki / "admin.key")
        return Api(url, ca=str(self.ca.files.certificate), pair=pair)

    @property
    def admin_kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.plan.kubeconfig("admin")

    @property
    def audit_log(self) -> Path:
        """What the API server did, one JSON event a line."""
        return self.plan.folder / "audit.log"

    def unit(self, name: str) -> Unit:
        """A component by name (etcd, kube-apiserver, kubelet, ...), to stop, pause, resume or restart it."""
        return Unit.load(self.plan.units, name)

    def unit_names(self) -> list[str]:
        """Names of the components started so far."""
        return sorted(file.stem for file in self.plan.units.glob("*.json"))

    def client_kubeconfig(self, user: str, *, groups: Sequence[str] = (), path: Path, server: str = "") -> Path:
        """Mint a client certificate for any user and write its kubeconfig (mode 0600) to `path`.

        `server` replaces the API server's address by that of a relay in front of it, at the lab's gateway or on
        loopback: the API server's certificate is valid for both.
        """
        return kubeconfig.write(
            path,
            cluster=self.name,
            server=server or self.url,
            ca=self.ca.files.certificate.read_bytes(),
            user=user,
            pair=self.ca.client(user, groups=groups),
        )

    def kubectl(
        self, *arguments: str | Path, kubeconfig: Path | None = None, stdin: str | None = None, timeout: float = 60.0
    ) -> str:
        """Run the cluster's own kubectl, by default as the administrator; LabError with its words if it fails."""
        config = kubeconfig or self.admin_kubeconfig
        command = [self.plan.binaries / "kubectl", f"--kubeconfig={config}", *arguments]
        return run(command, stdin=stdin, timeout=timeout)

    def set_audit_level(self, level: str) -> None:
        """Change what the audit log records; the API server restarts."""
        self.plan.write("audit-policy.json", json.dumps(control_plane.audit_policy(level)))
        self.unit("kube-apiserver").restart()
        self.wait_api()

    def up(self) -> None:
        """Start everything and wait until it is usable."""
        self._write_identities()
        self._start(control_plane.etcd(self.plan))
        self._start(control_plane.apiserver(self.plan))
        with ThreadPoolExecutor() as pool:
            runtime = pool.submit(self._start_runtime) if self.plan.nodes else None
            self.wait_api()
            self._start(control_plane.controller_manager(self.plan))
            self._start(control_plane.scheduler(self.plan))
            self._apply_base()
            if runtime:
                runtime.result()
                self._start_node()
        self.wait_service_account("default")
        if self.plan.nodes:
            self._wait("its node to be Ready", self.node_ready)
            self._tell_pod_network()
        if self.plan.apps:
            self._start_apps()

    def wait_api(self) -> None:
        """Wait for /readyz."""
        self._wait("its API server", self.api.ready)

    def wait_service_account(self, namespace: str) -> None:
        """Wait until pods can be made in a namespace: its default service account and root certificate are there."""
        base = f"/api/v1/namespaces/{namespace}"
        paths = (f"{base}/serviceaccounts/default", f"{base}/configmaps/kube-root-ca.crt")
        self._wait("its controllers", lambda: all(self.api.exists(path) for path in paths))

    def add_fake_nodes(self, count: int) -> None:
        """Start kwok and make `count` fake nodes; waits until they are Ready."""
        self._start(kwok.kwok(self.plan))
        names = [f"{self.name}-kwok-{i}" for i in range(count)]
        for name in names:
            self.api.apply(kwok.node(name))
            status = {"status": kwok.node(name)["status"]}
            self.api.request(
                "PATCH", f"/api/v1/nodes/{name}/status", body=status, content_type="application/merge-patch+json"
            )
        self._wait("its fake nodes to be Ready", lambda: all(self.node_ready(name) for name in names))

    def node_ready(self, name: str = "") -> bool:
        """Whether a node (by default the real one) is Ready."""
        try:
            status = self.api.request("GET", f"/api/v1/nodes/{name or self.plan.node_name}")["status"]
        except StatusError:
            return False
        conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
        return conditions.get("Ready") == "True"

    def _start(self, spec: UnitSpec) -> None:
        Unit(spec, self.plan.units).start()

    def _start_runtime(self) -> None:
        plan = self.plan
        self._start(node.holder(plan))
        wait_until(node.holder_ready(plan).exists, what="the node's namespaces", timeout=20)
        self._start(node.containerd(plan))
        archive = images.archive(plan.version)
        wait_until(self._containerd_ready, what="containerd", timeout=30, every=0.1)
        self.import_image(archive)

    def import_image(self, archive: Path) -> None:
        """Give the node the images of a docker-archive; there is no registry to pull from."""
        self.run_in_node("ctr", "-n", "k8s.io", "images", "import", archive)

    def run_in_node(self, *argv: str | Path) -> str:
        """Run a short program where the node's containerd and kubelet run, e.g. `ctr`."""
        return run(self.unit(HOLDER).enter(argv), timeout=120)

    def _containerd_ready(self) -> bool:
        self.unit("containerd").check_alive()
        try:
            self.run_in_node("ctr", "version")
        except LabError:
            return False
        return True

    def _start_node(self) -> None:
        plan = self.plan
        for spec in (node.kubelet(plan), node.kube_proxy(plan), addons.coredns(plan), addons.metrics_server(plan)):
            self._start(spec)

    def _tell_pod_network(self) -> None:
        """The node's CNI configuration has the whole range, and the Node says so, as a controller would make it."""
        networks = {"podCIDR": self.plan.pod_cidr, "podCIDRs": [self.plan.pod_cidr]}
        path, kind = f"/api/v1/nodes/{self.plan.node_name}", "application/merge-patch+json"
        self.api.request("PATCH", path, body={"spec": networks}, content_type=kind)

    def _start_apps(self) -> None:
        for manifest in apps.manifests():
            self.api.apply(manifest)
        path, body = apps.token_request(self.plan)
        token = self.api.request("POST", path, body=body)["status"]["token"]
        for spec in (apps.provisioner(self.plan), apps.ingress(self.plan, token=token)):
            self._start(spec)

    def _apply_base(self) -> None:
        manifests = addons.approver_manifests()
        if self.plan.nodes:
            manifests += [*addons.dns_manifests(self.plan), *addons.metrics_manifests(self.plan)]
        for manifest in manifests:
            self.api.apply(manifest)

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        def met() -> bool:
            for name in self.unit_names():
                self.unit(name).check_alive()
            return condition()

        wait_until(met, what=f"{self.name}: {what}", timeout=READY_TIMEOUT, every=0.1)

    def _write_identities(self) -> None:
        plan, ca = self.plan, self.ca
        front = pki.Authority(plan.pki, name="front-proxy-ca")
        ca.save("apiserver", ca.server("kube-apiserver", hosts=control_plane.server_names(plan)))
        ca.save("kubelet-client", ca.client("lab:apiserver", groups=_MASTERS))
        ca.save("admin", ca.client(ADMIN, groups=_MASTERS))
        front.save("front-proxy", front.client("front-proxy"))
        if plan.nodes:
            node_user = f"system:node:{plan.node_name}"
            serving = ca.server(node_user, hosts=[plan.site.ip, plan.node_name], groups=["system:nodes"])
            ca.save("kubelet-serving", serving)
            ca.save("metrics-server", ca.server("metrics-server", hosts=addons.metrics_names()))
        for component, (user, groups) in _users(plan).items():
            self.client_kubeconfig(user, groups=groups, path=plan.kubeconfig(component))


def _users(plan: ClusterPlan) -> dict[str, tuple[str, Sequence[str]]]:
    """Who each component is at the API server."""
    return {
        "admin": (ADMIN, _MASTERS),
        "kube-controller-manager": ("system:kube-controller-manager", ()),
        "kube-scheduler": ("system:kube-scheduler", ()),
        "kubelet": (f"system:node:{plan.node_name}", ("system:nodes",)),
        "kube-proxy": ("system:kube-proxy", ()),
        "coredns": (addons.COREDNS_USER, ()),
        "metrics-server": (addons.METRICS_USER, ()),
        "kwok": ("lab:kwok", _MASTERS),
        "approver": (addons.APPROVER_USER, ()),
        "local-path-provisioner": (apps.PROVISIONER_USER, ()),
    }
