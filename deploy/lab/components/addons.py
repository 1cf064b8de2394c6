"""CoreDNS and metrics-server, as programs on the node's network behind Services without selectors.

As pods they would need images of their own; as programs they start faster and answer the same.
"""

from __future__ import annotations

import base64
from typing import Any

from deploy.lab import gobuild
from deploy.lab.plan import CLUSTER_DOMAIN, METRICS_PORT, ClusterPlan
from deploy.lab.process import UnitSpec

COREDNS_USER = "lab:coredns"
METRICS_USER = "lab:metrics-server"
APPROVER_USER = "lab:approver"
Manifest = dict[str, Any]


def coredns(plan: ClusterPlan) -> UnitSpec:
    """Cluster DNS on the node's address; names outside the cluster are refused, there is nothing outside."""
    corefile = plan.write(
        "Corefile",
        f"""{CLUSTER_DOMAIN}:53 in-addr.arpa:53 ip6.arpa:53 {{
    bind {plan.site.ip}
    errors
    health {plan.site.ip}:8080
    ready {plan.site.ip}:8181
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {plan.kubeconfig("coredns")}
        pods verified
    }}
    cache 5
    loadbalance
}}
""",
    )
    return plan.unit("coredns", gobuild.COREDNS.target / "coredns", "-conf", corefile)


def metrics_server(plan: ClusterPlan) -> UnitSpec:
    """The resource metrics API, as near to real time as metrics-server goes (10 s)."""
    config = plan.kubeconfig("metrics-server")
    return plan.unit(
        "metrics-server",
        gobuild.METRICS_SERVER.target / "metrics-server",
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--bind-address={plan.site.ip}",
        f"--secure-port={METRICS_PORT}",
        f"--tls-cert-file={plan.pki / 'metrics-server.crt'}",
        f"--tls-private-key-file={plan.pki / 'metrics-server.key'}",
        f"--kubelet-certificate-authority={plan.pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--metric-resolution=10s",
        "--kubelet-request-timeout=5s",
    )


def dns_manifests(plan: ClusterPlan) -> list[Manifest]:
    """Rights, Service and endpoint of CoreDNS."""
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    return [
        *cluster_role("lab:coredns", user=COREDNS_USER, rules=rules),
        *_service(plan, "kube-dns", ports=ports, cluster_ip=plan.dns_ip),
    ]


def metrics_manifests(plan: ClusterPlan) -> list[Manifest]:
    """Rights, Service, endpoint and API registration of metrics-server."""
    rules = [
        {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]},
    ]
    ca = base64.b64encode((plan.pki / "ca.crt").read_bytes()).decode()
    ports = [{"name": "https", "port": METRICS_PORT, "protocol": "TCP"}]
    registration = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "caBundle": ca,
            "service": {"name": "metrics-server", "namespace": "kube-system", "port": METRICS_PORT},
        },
    }
    return [
        *cluster_role("lab:metrics-server", user=METRICS_USER, rules=rules),
        _binding("lab:metrics-server-delegator", role="system:auth-delegator", user=METRICS_USER),
        _auth_reader(),
        *_service(plan, "metrics-server", ports=ports),
        registration,
    ]


def approver_manifests() -> list[Manifest]:
    """Rights of the lab's approver: exactly the two kubelet signers."""
    signers = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"]
    requests = "certificatesigningrequests"
    group = ["certificates.k8s.io"]
    rules = [
        {"apiGroups": group, "resources": [requests], "verbs": ["get", "list", "watch"]},
        {"apiGroups": group, "resources": [f"{requests}/approval"], "verbs": ["update"]},
        {"apiGroups": group, "resources": ["signers"], "resourceNames": signers, "verbs": ["approve"]},
    ]
    return cluster_role("lab:approver", user=APPROVER_USER, rules=rules)


def metrics_names() -> list[str]:
    """What metrics-server's certificate is valid for: the aggregator verifies the Service's name."""
    return ["metrics-server.kube-system.svc"]


def cluster_role(name: str, *, user: str, rules: list[Manifest]) -> list[Manifest]:
    """A ClusterRole and its binding to a user."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": rules,
    }
    return [role, _binding(name, role=name, user=user)]


def _binding(name: str, *, role: str, user: str) -> Manifest:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }


def _auth_reader() -> Manifest:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "lab:metrics-server-auth-reader", "namespace": "kube-system"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": "extension-apiserver-authentication-reader",
        },
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": METRICS_USER}],
    }


def _service(plan: ClusterPlan, name: str, *, ports: list[Manifest], cluster_ip: str = "") -> list[Manifest]:
    metadata = {"name": name, "namespace": "kube-system"}
    service: Manifest = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}}
    if cluster_ip:
        service["spec"]["clusterIP"] = cluster_ip
    address = {"ip": plan.site.ip}
    # What API servers before 1.34 ask for the way to an aggregated API; not to be made into a second slice.
    endpoints = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {**metadata, "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [address], "ports": ports}],
    }
    endpoint_slice = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "name": f"{name}-lab", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [plan.site.ip], "conditions": {"ready": True}}],
    }
    return [service, endpoints, endpoint_slice]
