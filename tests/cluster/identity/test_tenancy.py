"""A tenant at work: its quota where ShadowPods become Pods, its namespaces, and what it may make in them."""

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml

from tests.cluster.identity.conftest import LONG, Peering
from tests.kubectl import Kubectl, KubectlError, eventually

Json = dict[str, Any]
OFFLOADING = "offloading.isthmus.dev/v1alpha1"
PODS = 8


def namespace_map(name: str) -> Json:
    return {
        "apiVersion": OFFLOADING,
        "kind": "NamespaceMap",
        "metadata": {"name": name},
        "spec": {"namespaceMapping": "DefaultName"},
    }


def shadow(name: str, cpu: str) -> Json:
    container = {"name": "main", "image": "none:1", "resources": {"requests": {"cpu": cpu}}}
    return {
        "apiVersion": OFFLOADING,
        "kind": "ShadowPod",
        "metadata": {"name": name},
        "spec": {"deletionGracePeriodSeconds": 0, "pod": {"spec": {"containers": [container]}}},
    }


def entered(peering: Peering, **limits: Any) -> Kubectl:
    """The consumer's credential in a namespace that it was given, with these limits."""
    tenant = yaml.safe_load(peering.ask())
    peering.enter(peering.answer(json.dumps({**tenant, "spec": {**tenant["spec"], **limits}})))
    desk = peering.credential()
    eventually(lambda: desk.create(namespace_map("app")), what="a NamespaceMap to be made", timeout=LONG)
    found = desk.wait_for(
        "namespacemap", "app", lambda it: it["status"]["conditions"][0]["status"] == "True", timeout=LONG
    )
    made = replace(desk, namespace=found["status"]["namespace"])
    eventually(lambda: made.run("get", "shadowpods") is not None, what="rights there", timeout=LONG)
    admin = replace(peering.provider, namespace=made.namespace)
    admin.wait_for("serviceaccount", "default", timeout=LONG)
    return made


def accepted(found: Json) -> str:
    conditions = found.get("status", {}).get("conditions", [])
    return next((one["status"] for one in conditions if one["type"] == "Accepted"), "")


def test_a26_pods_that_are_asked_for_at_once_do_not_exceed_the_quota_and_go_with_the_tenant(peering: Peering) -> None:
    own = entered(peering, resources={"cpu": "3"})
    own.apply(*(shadow(f"p-{i}", "1") for i in range(PODS)))
    decided = eventually(
        lambda: [it for it in own.list("shadowpods") if accepted(it)] if all_decided(own) else [],
        what="each to be decided",
        timeout=LONG,
    )
    assert len([it for it in decided if accepted(it) == "True"]) == 3
    refused = next(it for it in decided if accepted(it) == "False")
    assert refused["status"]["reason"] == "QuotaExceeded"
    assert "cpu: the pod wants 1, 3 of 3 are in use" in refused["status"]["message"]
    admin = replace(peering.provider, namespace=own.namespace)
    assert len(admin.list("pods")) == 3
    peering.provider.delete("tenant", "shop", "--timeout=100s", timeout=120)
    assert not peering.provider.exists("namespace", own.namespace)


def all_decided(own: Kubectl) -> bool:
    return all(accepted(it) for it in own.list("shadowpods"))


def test_a_namespace_that_the_tenant_may_not_have_is_refused(peering: Peering) -> None:
    own = entered(peering, namespaces=["app-*"])
    assert own.namespace == "app-shop"
    desk = peering.credential()
    desk.create(namespace_map("web"))
    found = desk.wait_for("namespacemap", "web", lambda it: it["status"]["conditions"][0]["reason"] == "Denied")
    assert "is not what the provider allows (app-*)" in found["status"]["conditions"][0]["message"]
    with pytest.raises(KubectlError, match="orbidden"):
        replace(own, namespace="default").run("get", "pods")


def made(kind: str, *, labels: Json | None = None, finalizers: list[str] | None = None, **body: Any) -> Json:
    metadata = {"name": "probe", "labels": labels or {}, "finalizers": finalizers or []}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **body}


INGRESS_CLASS = "kubernetes.io/ingress.class"


def claim(storage_class: str) -> Json:
    resources = {"requests": {"storage": "1Gi"}}
    spec = {"accessModes": ["ReadWriteOnce"], "resources": resources, "storageClassName": storage_class}
    return made("PersistentVolumeClaim", spec=spec)


def ingress(ingress_class: str) -> Json:
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    path = {"path": "/", "pathType": "Prefix", "backend": backend}
    spec: Json = {"rules": [{"host": "a.example", "http": {"paths": [path]}}]}
    spec |= {"ingressClassName": ingress_class} if ingress_class else {}
    return {**made("Ingress", spec=spec), "apiVersion": "networking.k8s.io/v1"}


def balancer(balancer_class: str, **fields: Any) -> Json:
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}], **fields}
    return made("Service", spec={**spec, "loadBalancerClass": balancer_class} if balancer_class else spec)


def test_classes_of_volumes_ingresses_and_load_balancers_are_those_of_the_tenant(peering: Peering) -> None:
    classes = {"storageClasses": ["fast"], "ingressClasses": ["public"], "loadBalancerClasses": []}
    own = entered(peering, **classes)

    def said(manifest: Json) -> str:
        done = own.result("create", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest).encode())
        return done.stderr.decode()

    text = "spec.storageClassName: slow is not for consumer shop, which may use: fast (Tenant, spec.storageClasses)"
    eventually(lambda: text in said(claim("slow")), what="the policies", timeout=LONG)
    assert said(claim("fast")) == ""
    for manifest, key in ((claim("fast"), "volume.beta.kubernetes.io/storage-class"), (ingress(""), INGRESS_CLASS)):
        manifest["metadata"]["annotations"] = {key: "hidden"}
        assert "hidden is not for consumer shop" in said(manifest)
    assert "public is not" not in said(ingress("public"))
    assert "spec.ingressClassName: inside is not for consumer shop" in said(ingress("inside"))
    assert "of no class is not for consumer shop, which may use: none" in said(balancer(""))
    assert "example.com/x is not for consumer shop" in said(balancer("example.com/x"))
    assert said(balancer("", type="ClusterIP")) == ""

    peering.provider.run("patch", "tenant", "shop", "--type=merge", "-p", '{"spec":{"storageClasses":null}}')
    eventually(lambda: said(claim("slow")) == "", what="any class to do", timeout=LONG)


def test_the_requests_of_a_tenant_go_through_the_priority_level_that_it_names(peering: Peering) -> None:
    entered(peering)

    def level(name: str) -> bool:
        flow = peering.provider.get("flowschema", "isthmus-tenant-shop")
        return bool(flow["spec"]["priorityLevelConfiguration"]["name"] == name)

    assert level("isthmus-tenants")
    peering.provider.run("patch", "tenant", "shop", "--type=merge", "-p", '{"spec":{"priorityLevel":"workload-low"}}')
    eventually(lambda: level("workload-low"), what="the flow to change its level", timeout=LONG)


@pytest.mark.parametrize("credential", ["Certificate", "Token"])
def test_a22_a24_a27_the_policies_for_consumers_hold_whatever_the_credential(peering: Peering, credential: str) -> None:
    own = entered(peering, credential=credential)

    def said(manifest: Json) -> str:
        done = own.result("create", "--dry-run=server", "-f", "-", stdin=json.dumps(manifest).encode())
        return done.stderr.decode()

    mine = {"offloading.isthmus.dev/consumer": "shop"}
    assert said(made("ConfigMap", labels=mine)) == ""
    assert "the name of another" in said(made("ConfigMap", labels={"offloading.isthmus.dev/consumer": "other"}))
    assert "metadata.finalizers" in said(made("ConfigMap", finalizers=["a.example/b"]))
    assert "may not make a Secret of type" in said(made("Secret", type="helm.sh/release.v1"))
    if credential == "Token":  # certificates' users are tried with all kinds in tests/cluster/managed/test_policies.py
        assert "can't bear" in said(made("Secret", labels={"offloading.isthmus.dev/consumer": "other"}))
