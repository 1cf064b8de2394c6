"""What a consumer may not make at its provider besides pods, asked of a real API server with the consumer's credential.

The policies look at the user's name, so they hold in direct mode in the same way (`deploy/policies/consumers`).
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.cluster.managed.conftest import LONG, Tenant, shadow
from tests.kubectl import Kubectl, KubectlError, eventually

Json = dict[str, Any]
MARKS = "offloading.isthmus.dev"


def make(kind: str, api: str, *, name: str = "probe", metadata: Json | None = None, **body: Any) -> Json:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, **(metadata or {})}, **body}


def secret(kind: str, **metadata: Any) -> Json:
    return make("Secret", "v1", type=kind, data={}, metadata=metadata)


def service(**spec: Any) -> Json:
    return make("Service", "v1", spec={"ports": [{"port": 80}], **spec})


def slices(*addresses: str, kind: str = "IPv4") -> Json:
    return make(
        "EndpointSlice",
        "discovery.k8s.io/v1",
        addressType=kind,
        endpoints=[{"addresses": [one]} for one in addresses],
        ports=[{"port": 80}],
    )


def ingress(*hosts: str, **spec: Any) -> Json:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = {"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    rules = [{"host": host, **paths} if host else paths for host in hosts]
    return make("Ingress", "networking.k8s.io/v1", spec={"rules": rules, **spec})


def config_map(**metadata: Any) -> Json:
    return make("ConfigMap", "v1", metadata=metadata, data={})


def refused(kubectl: Kubectl, manifest: Json) -> str:
    """What the API server says against it."""
    with pytest.raises(KubectlError) as caught:
        kubectl.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest))
    return str(caught.value)


def allowed(kubectl: Kubectl, manifest: Json) -> bool:
    kubectl.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest))
    return True


@pytest.fixture(scope="module")
def own(neighbour: Tenant) -> Kubectl:
    """kubectl as the consumer, in its namespace at the provider."""
    return neighbour.kubectl


def test_a22_a_service_claims_no_address_and_leads_to_no_name(own: Kubectl) -> None:
    assert "spec.externalIPs" in refused(own, service(externalIPs=["192.0.2.9"]))
    assert "spec.loadBalancerIP" in refused(own, service(type="LoadBalancer", loadBalancerIP="192.0.2.9"))
    metadata_host = service(type="ExternalName", externalName="metadata.internal")
    assert "ExternalName" in refused(own, metadata_host)
    assert allowed(own, service(selector={"app": "web"}))
    assert allowed(own, service(type="LoadBalancer", selector={"app": "web"}))


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1"])
def test_a23_endpoints_are_not_on_the_providers_nodes(own: Kubectl, address: str) -> None:
    # The API server knows some of these by itself; with one that it takes for good beside, both are to be refused.
    assert "endpoints" in refused(own, slices("10.9.0.1", address))


@pytest.mark.parametrize("address", ["::1", "fe80::1", "ff02::1", "::"])
def test_a23_nor_by_ipv6(own: Kubectl, address: str) -> None:
    assert "endpoints" in refused(own, slices(address, kind="IPv6"))


def test_a23_endpoints_have_addresses_and_no_names(own: Kubectl) -> None:
    assert "addressType" in refused(own, slices("metadata.internal", kind="FQDN"))


@pytest.fixture
def said(neighbour: Tenant) -> Iterator[Kubectl]:
    """Where the provider's administrator says what is whose."""
    desk = replace(neighbour.admin, namespace="isthmus")
    yield desk
    desk.delete("configmap", "isthmus-peer-networks", "isthmus-ingress-hosts", "--ignore-not-found")


def test_a23_endpoints_are_within_the_consumers_networks_where_those_are_known(
    own: Kubectl, neighbour: Tenant, said: Kubectl
) -> None:
    assert allowed(own, slices("10.9.0.1"))
    networks = {neighbour.consumer_id: "10.9.0.0/16 fd00:9::/48", "_others": ""}
    said.apply(make("ConfigMap", "v1", name="isthmus-peer-networks", data=networks))

    def told() -> bool:
        return "10.9.0.0/16 fd00:9::/48" in refused(own, slices("10.9.0.1", "10.10.0.1"))

    eventually(lambda: not _passes(own, slices("10.10.0.1")), what="the networks to hold", timeout=LONG)
    assert told()
    assert allowed(own, slices("10.9.0.1", "10.9.255.254"))
    assert allowed(own, slices("fd00:9::5", kind="IPv6"))
    assert "outside" in refused(own, slices("fd00:8::5", kind="IPv6"))


def _passes(kubectl: Kubectl, manifest: Json) -> bool:
    done = kubectl.result("create", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest).encode())
    return done.returncode == 0


@pytest.mark.parametrize(
    "kind",
    [
        "kubernetes.io/service-account-token",
        "bootstrap.kubernetes.io/token",
        "helm.sh/release.v1",
        "kubernetes.io/something-new",
    ],
)
def test_a24_no_secret_mints_a_token(own: Kubectl, kind: str) -> None:
    account = {"annotations": {"kubernetes.io/service-account.name": "default"}}
    said = refused(own, secret(kind, **account))
    assert f"may not make a Secret of type {kind}" in said
    assert "use type Opaque" in said


def test_a24_other_secrets_are_the_consumers_own(own: Kubectl) -> None:
    assert allowed(own, secret("Opaque"))
    assert allowed(own, secret("example.org/theirs"))


def test_a25_a_shadow_pod_mounts_no_account_of_the_provider(tenant: Tenant) -> None:
    projected = {"sources": [{"serviceAccountToken": {"path": "token", "audience": "vault"}}]}
    tenant.shadow("token", volumes=[{"name": "v", "projected": projected}])
    tenant.shadow("mounts", automountServiceAccountToken=True)
    tenant.shadow("other", serviceAccountName="builder")
    for name, field in (("token", "serviceAccountToken"), ("mounts", "automount"), ("other", "serviceAccountName")):
        assert field in tenant.until(name, reason="Forbidden")["status"]["message"]
        assert not tenant.admin.exists("pod", name)


def test_a25_a_pod_names_only_what_is_in_its_own_namespace(tenant: Tenant, neighbour: Tenant) -> None:
    """One of another namespace can't be named at all, and is in reach of nobody else's credential."""
    neighbour.kubectl.run("create", "secret", "generic", "private", "--from-literal=a=b")
    with pytest.raises(KubectlError, match="forbidden"):
        replace(tenant.kubectl, namespace=neighbour.namespace).get("secret", "private")
    tenant.shadow("plain")
    tenant.until("plain", phase="Running")
    spec = tenant.kubectl.get("pod", "plain")["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert "volumes" not in spec


def test_a27_nothing_bears_the_name_of_another_consumer_or_the_managers_marks(own: Kubectl) -> None:
    for manifest in (
        config_map(labels={f"{MARKS}/consumer": "victim"}),
        shadow("probe") | {"metadata": {"name": "probe", "labels": {f"{MARKS}/consumer": "victim"}}},
        secret("Opaque", labels={f"{MARKS}/consumer": "victim"}),
    ):
        assert "can't bear the name of another" in refused(own, manifest)
    assert "marks of the provider's manager" in refused(own, config_map(labels={f"{MARKS}/shadow-pod": "x"}))
    assert allowed(own, config_map(labels={f"{MARKS}/consumer": "other"}))


def test_a27_finalizers_are_not_the_consumers_to_set_or_to_strike(tenant: Tenant) -> None:
    assert "metadata.finalizers" in refused(tenant.kubectl, config_map(finalizers=["example.org/stay"]))
    tenant.shadow("web")
    tenant.until("web", phase="Running")
    strike = ("patch", "shadowpod", "web", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    with pytest.raises(KubectlError, match=r"metadata\.finalizers"):
        tenant.kubectl.run(*strike)


def test_a28_an_ingress_takes_neither_all_hosts_nor_a_wildcard(own: Kubectl) -> None:
    assert "name a host" in refused(own, ingress(defaultBackend={"service": {"name": "w", "port": {"number": 80}}}))
    assert "without a host" in refused(own, ingress(""))
    assert "wildcard" in refused(own, ingress("*.example.org"))
    assert "wildcard" in refused(own, ingress("a.example.org", tls=[{"hosts": ["*.example.org"]}]))
    assert allowed(own, ingress("a.example.org"))


def test_a28_a_host_that_is_anothers_is_refused(own: Kubectl, neighbour: Tenant, said: Kubectl) -> None:
    hosts = {"victim": ".victim.example shared.example", "_provider": "console.example"}
    said.apply(make("ConfigMap", "v1", name="isthmus-ingress-hosts", data=hosts))
    eventually(lambda: not _passes(own, ingress("console.example")), what="the hosts to hold", timeout=LONG)
    for host in ("shop.victim.example", "shared.example", "console.example"):
        assert f"{host} is not a host of consumer {neighbour.consumer_id}" in refused(own, ingress("my.example", host))
    assert allowed(own, ingress("my.example"))
    said.apply(
        make("ConfigMap", "v1", name="isthmus-ingress-hosts", data={**hosts, neighbour.consumer_id: ".mine.example"})
    )
    eventually(lambda: not _passes(own, ingress("my.example")), what="the own hosts to hold", timeout=LONG)
    assert allowed(own, ingress("a.mine.example"))
