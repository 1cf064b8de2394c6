"""A lab's clusters are whole: pods, logs, exec, DNS, Services, metrics, resize, certificates."""

from __future__ import annotations

import base64
import ipaddress
import json
import subprocess
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.lab import binaries
from deploy.lab.api import Api, StatusError
from deploy.lab.cluster import LabCluster
from deploy.lab.errors import LabError
from deploy.lab.faults import Faults
from deploy.lab.images import AGNHOST_IMAGE
from deploy.lab.lab import Lab
from deploy.lab.plan import KUBELET_PORT
from deploy.lab.process import wait_until


def pod(name: str, *arguments: str, **container: Any) -> dict[str, Any]:
    spec = {"name": "c", "image": AGNHOST_IMAGE, "imagePullPolicy": "IfNotPresent", "args": list(arguments)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{**spec, **container}], "terminationGracePeriodSeconds": 1},
    }


def make(cluster: LabCluster, namespace: str, *manifests: dict[str, Any]) -> None:
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin="\n".join(json.dumps(m) for m in manifests))


def wait_ready(cluster: LabCluster, namespace: str, name: str) -> None:
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s", timeout=70)


@pytest.fixture
def web(provider: LabCluster, namespace: str) -> str:
    """A pod with a web server and a shell, behind a Service of its name; its namespace."""
    ports = [{"port": 80, "targetPort": 8080}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": ports},
    }
    requests = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
    make(provider, namespace, pod("web", "netexec", resources=requests), service)
    wait_ready(provider, namespace, "web")
    return namespace


def test_a_pod_runs_and_answers_kubectl(provider: LabCluster, web: str) -> None:
    assert provider.kubectl("-n", web, "exec", "web", "--", "hostname").strip() == "web"
    assert "Started HTTP server" in provider.kubectl("-n", web, "logs", "web")


def test_a_service_is_reached_by_name_and_from_its_own_pod(provider: LabCluster, web: str) -> None:
    shell = ["-n", web, "exec", "web", "--"]
    assert f"web.{web}.svc.cluster.local" in provider.kubectl(*shell, "nslookup", f"web.{web}.svc.cluster.local")
    assert provider.kubectl(*shell, "wget", "-qO-", f"http://web.{web}/hostname") == "web"


def test_a_pod_reaches_its_api_server_with_its_service_account(provider: LabCluster, web: str) -> None:
    script = (
        "d=/var/run/secrets/kubernetes.io/serviceaccount; wget -qO- --no-check-certificate "
        '--header "Authorization: Bearer $(cat $d/token)" https://kubernetes.default/version'
    )
    assert "v1." in provider.kubectl("-n", web, "exec", "web", "--", "sh", "-c", script)


def test_top_shows_nodes_and_pods(provider: LabCluster, web: str) -> None:
    def shown(*arguments: str) -> bool:
        try:
            return bool(provider.kubectl("top", *arguments, "--no-headers").strip())
        except LabError:
            return False

    wait_until(lambda: shown("node"), what="kubectl top node", timeout=60, every=1)
    wait_until(lambda: shown("-n", web, "pod", "web"), what="kubectl top pod", timeout=60, every=1)


def test_a_pod_is_resized_in_place(provider: LabCluster, web: str) -> None:
    patch = {"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "300m"}}}]}}
    provider.kubectl("-n", web, "patch", "pod", "web", "--subresource=resize", "-p", json.dumps(patch))

    def quota() -> str:
        return provider.kubectl("-n", web, "exec", "web", "--", "cat", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us").strip()

    wait_until(lambda: quota() == "30000", what="the new CPU limit", timeout=60, every=1)


def test_the_kubelet_serves_with_a_certificate_of_the_cluster(provider: LabCluster) -> None:
    url = f"https://{provider.plan.site.ip}:{KUBELET_PORT}"
    stranger = Api(url, ca=str(provider.ca.files.certificate), pair=None)
    with pytest.raises(StatusError) as refused:
        stranger.text("/pods")
    assert refused.value.status == 401


def test_a_killed_kubelet_leaves_its_pods_alone(provider: LabCluster, web: str, faults: Faults) -> None:
    with faults.killed("provider", "kubelet"), pytest.raises(LabError, match="refused"):
        provider.kubectl("-n", web, "exec", "web", "--", "hostname")

    def answers() -> bool:
        try:
            return provider.kubectl("-n", web, "exec", "web", "--", "hostname").strip() == "web"
        except LabError:
            return False

    wait_until(answers, what="the kubelet to serve again", timeout=60, every=0.5)
    status = provider.api.request("GET", f"/api/v1/namespaces/{web}/pods/web")["status"]
    assert status["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.parametrize("version", ["1.29", "1.34.4"])
def test_kubectl_of_other_versions_is_at_hand(provider: LabCluster, version: str) -> None:
    argv = [str(binaries.kubectl(version)), f"--kubeconfig={provider.admin_kubeconfig}", "version", "-o", "json"]
    shown = json.loads(subprocess.check_output(argv, stderr=subprocess.DEVNULL))
    assert shown["clientVersion"]["gitVersion"].startswith(f"v{version}")
    assert shown["serverVersion"]["gitVersion"] == "v1.34.4"


def request_certificate(cluster: LabCluster, *, node: str, ip: str, api: Api) -> dict[str, Any]:
    """Ask through `api` for a serving certificate of `node`; the request's status once it is decided."""
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes")]
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}"))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ip))])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    signed = builder.add_extension(names, critical=False).sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "test-"},
        "spec": {
            "request": base64.b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode(),
            "signerName": "kubernetes.io/kubelet-serving",
            "usages": ["digital signature", "server auth"],
        },
    }
    path = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
    name = api.request("POST", path, body=body)["metadata"]["name"]

    def decided() -> dict[str, Any]:
        status: dict[str, Any] = cluster.api.request("GET", f"{path}/{name}").get("status", {})
        done = status.get("certificate") or any(c["type"] == "Denied" for c in status.get("conditions", []))
        return status if done else {}

    return wait_until(decided, what="a decision", timeout=30, every=0.1)


def test_the_approver_lets_a_node_serve_from_its_own_address_only(lab: Lab, consumer: LabCluster) -> None:
    host = lab.add_host("serving", nodes=["virtual-test"])
    pair = consumer.ca.save("virtual-test", consumer.ca.client("system:node:virtual-test", groups=["system:nodes"]))
    node = Api(consumer.url, ca=str(consumer.ca.files.certificate), pair=pair)
    good = request_certificate(consumer, node="virtual-test", ip=host.ip, api=node)
    assert good["certificate"]
    bad = request_certificate(consumer, node="virtual-test", ip=consumer.plan.site.ip, api=node)
    assert "are not virtual-test's" in bad["conditions"][0]["message"]


def test_the_approver_turns_anybody_else_down(lab: Lab, consumer: LabCluster) -> None:
    host = lab.add_host("serving", nodes=["virtual-test"])
    status = request_certificate(consumer, node="virtual-test", ip=host.ip, api=consumer.api)
    assert "not by the node itself" in status["conditions"][0]["message"]
