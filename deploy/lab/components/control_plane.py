"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler."""

from __future__ import annotations

import json
from typing import Any

from deploy.lab import gobuild, pki
from deploy.lab.plan import API_PORT, CLUSTER_DOMAIN, ClusterPlan
from deploy.lab.process import UnitSpec

ETCD_METRICS_PORT = 2381
# etcd serves this cluster's API server only, over its namespace's own loopback.
_ETCD = "http://127.0.0.1:2379"
_READS = ["get", "list", "watch"]
_NEVER_AUDITED: list[dict[str, Any]] = [
    {"level": "None", "nonResourceURLs": ["/*"]},
    {"level": "None", "resources": [{"group": "coordination.k8s.io"}, {"group": "events.k8s.io"}]},
    {"level": "None", "resources": [{"group": "", "resources": ["events"]}]},
]
_SECRET_BODIES: list[dict[str, Any]] = [
    {"group": "", "resources": ["secrets", "serviceaccounts/token"]},
    {"group": "authentication.k8s.io"},
    {"group": "authorization.k8s.io"},
]


def etcd(plan: ClusterPlan) -> UnitSpec:
    """One member, without fsync: the lab's data need not survive a power cut."""
    peer = "http://127.0.0.1:2380"
    return plan.unit(
        "etcd",
        gobuild.ETCD.target / "etcd",
        "--name=etcd",
        f"--data-dir={plan.folder / 'etcd'}",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=etcd={peer}",
        f"--listen-metrics-urls=http://{plan.site.ip}:{ETCD_METRICS_PORT}",
        "--unsafe-no-fsync",
        "--log-level=warn",
        "--quota-backend-bytes=8589934592",
        # Room for objects of the API server's own limit, 3 MiB.
        "--max-request-bytes=4194304",
    )


def audit_policy(level: str) -> dict[str, Any]:
    """What the API server records: `level` of writes; of reads and secret bodies that they were; nothing of events."""
    rules: list[dict[str, Any]] = [{"level": "None"}]
    if level != "None":
        only_that = ({"level": "Metadata", "resources": _SECRET_BODIES}, {"level": "Metadata", "verbs": _READS})
        rules = [*_NEVER_AUDITED, *only_that, {"level": level}]
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": rules}


def apiserver(plan: ClusterPlan) -> UnitSpec:
    """The API server, with all that the contract of a kubelet rests on: Node authoriser, verified kubelets."""
    plan.write("audit-policy.json", json.dumps(audit_policy(plan.audit)))
    private, public = pki.signing_key(plan.pki / "service-accounts.key")
    return plan.unit(
        "kube-apiserver",
        plan.binaries / "kube-apiserver",
        f"--advertise-address={plan.site.ip}",
        f"--secure-port={API_PORT}",
        f"--etcd-servers={_ETCD}",
        f"--service-cluster-ip-range={plan.service_cidr}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged",
        f"--client-ca-file={plan.pki / 'ca.crt'}",
        f"--tls-cert-file={plan.pki / 'apiserver.crt'}",
        f"--tls-private-key-file={plan.pki / 'apiserver.key'}",
        f"--kubelet-client-certificate={plan.pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={plan.pki / 'kubelet-client.key'}",
        f"--kubelet-certificate-authority={plan.pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={private}",
        f"--service-account-key-file={public}",
        f"--requestheader-client-ca-file={plan.pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={plan.pki / 'front-proxy.crt'}",
        f"--proxy-client-key-file={plan.pki / 'front-proxy.key'}",
        "--enable-aggregator-routing",
        f"--audit-policy-file={plan.folder / 'audit-policy.json'}",
        f"--audit-log-path={plan.folder / 'audit.log'}",
        "--audit-log-maxsize=4096",
    )


def controller_manager(plan: ClusterPlan) -> UnitSpec:
    """The controllers, each with its own service account, and the signer of certificate requests."""
    config = plan.kubeconfig("kube-controller-manager")
    return plan.unit(
        "kube-controller-manager",
        plan.binaries / "kube-controller-manager",
        *_own_identity(config),
        "--use-service-account-credentials",
        f"--service-account-private-key-file={plan.pki / 'service-accounts.key'}",
        f"--root-ca-file={plan.pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={plan.pki / 'ca.crt'}",
        f"--cluster-signing-key-file={plan.pki / 'ca.key'}",
        f"--cluster-cidr={plan.pod_cidr}",
        f"--service-cluster-ip-range={plan.service_cidr}",
        # The CNI configuration of the one real node has the whole range.
        "--allocate-node-cidrs=false",
        "--leader-elect=false",
    )


def scheduler(plan: ClusterPlan) -> UnitSpec:
    """The ordinary scheduler."""
    config = plan.kubeconfig("kube-scheduler")
    return plan.unit("kube-scheduler", plan.binaries / "kube-scheduler", *_own_identity(config), "--leader-elect=false")


def server_names(plan: ClusterPlan) -> list[str]:
    """What the API server's certificate is valid for; relays in front of it stand at the gateway or on loopback."""
    service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{CLUSTER_DOMAIN}"]
    gateway = f"{plan.site.ip.rpartition('.')[0]}.1"
    return [plan.site.ip, gateway, "127.0.0.1", plan.kubernetes_ip, "localhost", plan.name, *service]


def _own_identity(config: object) -> list[str]:
    return [
        "--bind-address=127.0.0.1",
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        # As shipped (20 a second) the controller manager takes 5 s to start its controllers one by one.
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
    ]
