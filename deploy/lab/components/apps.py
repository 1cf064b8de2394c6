"""What applications use besides the cluster itself: volumes made on demand, and Ingresses that are served.

Programs on the node's network, like CoreDNS. The provisioner runs a pod for each volume that it makes or removes; the
ingress controller is skipper, which balances over the addresses in EndpointSlices and asks the API server for them
every second. It writes no status on Ingresses.
"""

from __future__ import annotations

import json
from dataclasses import replace

import yaml

from deploy.lab import gobuild
from deploy.lab.components.addons import Manifest, cluster_role
from deploy.lab.images import AGNHOST_IMAGE
from deploy.lab.plan import ClusterPlan
from deploy.lab.process import UnitSpec

STORAGE_CLASS = "local-path"
INGRESS_CLASS = "skipper"
INGRESS_PORT = 80
PROVISIONER_USER = "lab:local-path-provisioner"
INGRESS_ACCOUNT = "skipper"
_NAMESPACE = "kube-system"
_PROVISIONER = "rancher.io/local-path"
_SCRIPTS = "local-path-scripts"
_HELPER_ACCOUNT = "local-path-helper"
_TOKEN_SECONDS = 365 * 24 * 3600


def provisioner(plan: ClusterPlan) -> UnitSpec:
    """Makes volumes of the class `local-path` in the cluster's state folder, with which they end."""
    folder = plan.folder / "volumes"
    folder.mkdir(exist_ok=True)
    paths = {"nodePathMap": [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [str(folder)]}]}
    helper = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "helper"},
        "spec": {"containers": [{"name": "helper", "image": AGNHOST_IMAGE, "imagePullPolicy": "IfNotPresent"}]},
    }
    return plan.unit(
        "local-path-provisioner",
        gobuild.LOCAL_PATH.target / "local-path-provisioner",
        "start",
        f"--kubeconfig={plan.kubeconfig('local-path-provisioner')}",
        f"--config={plan.write('local-path.json', json.dumps(paths))}",
        f"--helper-pod-file={plan.write('local-path-helper.yaml', yaml.safe_dump(helper))}",
        f"--helper-image={AGNHOST_IMAGE}",
        f"--provisioner-name={_PROVISIONER}",
        f"--namespace={_NAMESPACE}",
        f"--configmap-name={_SCRIPTS}",
        f"--service-account-name={_HELPER_ACCOUNT}",
    )


def ingress(plan: ClusterPlan, *, token: str) -> UnitSpec:
    """Serves Ingresses of the class `skipper` at the node's address, port 80."""
    file = plan.write("skipper.token", token)
    file.chmod(0o600)
    spec = plan.unit(
        "skipper",
        gobuild.SKIPPER.target / "skipper",
        f"-address={plan.site.ip}:{INGRESS_PORT}",
        f"-support-listener={plan.site.ip}:9911",
        "-kubernetes",
        f"-kubernetes-url={plan.url}",
        f"-kubernetes-token-file={file}",
        f"-kubernetes-ingress-class=^{INGRESS_CLASS}$",
        "-enable-kubernetes-endpointslices",
        "-kubernetes-https-redirect=false",
        "-source-poll-timeout=1000",
        "-access-log-disabled",
        # An address that does not answer is given up soon, and another one tried.
        "-timeout-backend=2s",
        # There is no load balancer before it that has to notice its end first.
        "-wait-for-healthcheck-interval=0s",
    )
    return replace(spec, env={**spec.env, "SSL_CERT_FILE": str(plan.pki / "ca.crt")})


def token_request(plan: ClusterPlan) -> tuple[str, Manifest]:
    """Path and body that give skipper its token: it knows no client certificates."""
    spec = {"expirationSeconds": _TOKEN_SECONDS}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    return f"/api/v1/namespaces/{_NAMESPACE}/serviceaccounts/{INGRESS_ACCOUNT}/token", body


def manifests() -> list[Manifest]:
    """Classes, rights, and the scripts of the provisioner's pods."""
    scripts = {"setup": 'mkdir -m 0777 -p "$VOL_DIR"\n', "teardown": 'rm -rf "$VOL_DIR"\n'}
    return [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": STORAGE_CLASS},
            "provisioner": _PROVISIONER,
            "volumeBindingMode": "WaitForFirstConsumer",
            "reclaimPolicy": "Delete",
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": INGRESS_CLASS},
            "spec": {"controller": "zalando.org/skipper"},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": _SCRIPTS, "namespace": _NAMESPACE},
            "data": scripts,
        },
        *(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": _NAMESPACE}}
            for name in (_HELPER_ACCOUNT, INGRESS_ACCOUNT)
        ),
        *cluster_role("lab:local-path-provisioner", user=PROVISIONER_USER, rules=_provisioner_rules()),
        *cluster_role(
            "lab:skipper", user=f"system:serviceaccount:{_NAMESPACE}:{INGRESS_ACCOUNT}", rules=_ingress_rules()
        ),
    ]


def _provisioner_rules() -> list[Manifest]:
    read = ["get", "list", "watch"]
    return [
        {"apiGroups": [""], "resources": ["nodes", "persistentvolumeclaims", "configmaps", "pods/log"], "verbs": read},
        {"apiGroups": [""], "resources": ["pods"], "verbs": [*read, "create", "patch", "update", "delete"]},
        {
            "apiGroups": [""],
            "resources": ["persistentvolumes"],
            "verbs": [*read, "create", "patch", "update", "delete"],
        },
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
        {"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": read},
    ]


def _ingress_rules() -> list[Manifest]:
    read = ["get", "list"]
    return [
        {"apiGroups": [""], "resources": ["services", "endpoints", "namespaces"], "verbs": read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
        {"apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], "verbs": read},
    ]
