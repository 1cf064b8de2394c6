"""What a consumer's pod may not ask for: every case a violation that names its field, and an honest pod none."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.quantities import QuantityError
from reflection.forge.model import ForgeContext
from reflection.forge.pod import forge_pod
from reflection.managed.checks import check
from reflection.managed.settings import Limits
from reflection.managed.usage import usage

Json = dict[str, Any]
NONE = Limits()
MAIN: Json = {"name": "main", "image": "none:1"}


def found(spec: Json, *, limits: Limits = NONE, **metadata: Any) -> list[str]:
    pod = {"metadata": metadata, "spec": {"containers": [MAIN], **spec}}
    return [violation.field for violation in check(pod, consumer_id="blue", limits=limits)]


def container(**fields: Any) -> Json:
    return {"containers": [{**MAIN, **fields}]}


def volume(**source: Any) -> Json:
    return {"volumes": [{"name": "v", **source}]}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"hostNetwork": True}, "spec.hostNetwork"),
        ({"hostPID": True}, "spec.hostPID"),
        ({"hostIPC": True}, "spec.hostIPC"),
        ({"nodeName": "n"}, "spec.nodeName"),
        ({"serviceAccountName": "builder"}, "spec.serviceAccountName"),
        ({"serviceAccount": "builder"}, "spec.serviceAccount"),
        ({"automountServiceAccountToken": True}, "spec.automountServiceAccountToken"),
        ({"priorityClassName": "system-cluster-critical"}, "spec.priorityClassName"),
        ({"priority": 2000000000}, "spec.priority"),
        ({"tolerations": [{"operator": "Exists"}]}, "spec.tolerations"),
        ({"runtimeClassName": "privileged"}, "spec.runtimeClassName"),
        ({"schedulerName": "mine"}, "spec.schedulerName"),
        ({"affinity": {"podAffinity": {"x": 1}}}, "spec.affinity.podAffinity"),
        ({"hostFuture": True}, "spec.hostFuture"),
        (
            {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
            "spec.securityContext.sysctls[0]",
        ),
        ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "spec.securityContext.seccompProfile"),
        ({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}, "spec.securityContext.seLinuxOptions"),
        (
            {"securityContext": {"windowsOptions": {"hostProcess": True}}},
            "spec.securityContext.windowsOptions.hostProcess",
        ),
        (volume(hostPath={"path": "/"}), "spec.volumes[0].hostPath"),
        (volume(flexVolume={"driver": "x"}), "spec.volumes[0].flexVolume"),
        (volume(nfs={"server": "10.0.0.1"}), "spec.volumes[0].nfs"),
        (volume(futureVolume={}), "spec.volumes[0].futureVolume"),
        (
            volume(projected={"sources": [{"serviceAccountToken": {"path": "t"}}]}),
            "spec.volumes[0].projected.sources[0].serviceAccountToken",
        ),
        (container(securityContext={"privileged": True}), "spec.containers[0].securityContext.privileged"),
        (
            container(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}}),
            "spec.containers[0].securityContext.capabilities.add",
        ),
        (container(securityContext={"procMount": "Unmasked"}), "spec.containers[0].securityContext.procMount"),
        (
            container(securityContext={"appArmorProfile": {"type": "Unconfined"}}),
            "spec.containers[0].securityContext.appArmorProfile",
        ),
        (container(ports=[{"containerPort": 1, "hostPort": 80}]), "spec.containers[0].ports[0].hostPort"),
        (container(volumeDevices=[{"name": "v"}]), "spec.containers[0].volumeDevices"),
        (container(livenessProbe={"httpGet": {"host": "10.0.0.1"}}), "spec.containers[0].livenessProbe.httpGet.host"),
        (
            container(lifecycle={"preStop": {"tcpSocket": {"host": "db"}}}),
            "spec.containers[0].lifecycle.preStop.tcpSocket.host",
        ),
        (container(resources={"claims": [{"name": "gpu"}]}), "spec.containers[0].resources.claims"),
        (
            {"initContainers": [{**MAIN, "securityContext": {"privileged": True}}]},
            "spec.initContainers[0].securityContext.privileged",
        ),
        (
            {"ephemeralContainers": [{**MAIN, "securityContext": {"privileged": True}}]},
            "spec.ephemeralContainers[0].securityContext.privileged",
        ),
        ({"containers": [{"image": "x"}]}, "spec.containers[0]"),
        ({"containers": {"a": 1}}, "spec.containers"),
        (container(resources=["cpu"]), "spec.containers[0].resources"),
        (container(resources={"limits": "all"}), "spec.containers[0].resources"),
    ],
)
def test_a21_what_reaches_beyond_the_pod_is_refused(spec: Json, field: str) -> None:
    assert field in found(spec)


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"labels": {"offloading.isthmus.dev/consumer": "red"}}, "metadata.labels[offloading.isthmus.dev/consumer]"),
        ({"labels": {"offloading.isthmus.dev/shadow-pod": "x"}}, "metadata.labels[offloading.isthmus.dev/shadow-pod]"),
        ({"labels": {"networking.isthmus.dev/x": "x"}}, "metadata.labels[networking.isthmus.dev/x]"),
        (
            {"annotations": {"offloading.isthmus.dev/applied": "{}"}},
            "metadata.annotations[offloading.isthmus.dev/applied]",
        ),
        ({"annotations": {"kubernetes.io/config.mirror": "x"}}, "metadata.annotations[kubernetes.io/config.mirror]"),
        ({"annotations": {"k8s.v1.cni.cncf.io/networks": "x"}}, "metadata.annotations[k8s.v1.cni.cncf.io/networks]"),
    ],
)
def test_a27_forged_metadata_is_refused(metadata: Json, field: str) -> None:
    assert found({}, **metadata) == [field]


def test_what_the_administrator_allows_is_allowed() -> None:
    limits = Limits(runtime_classes=frozenset({"gvisor"}), priority_classes=frozenset({"low"}))
    assert found({"runtimeClassName": "gvisor", "priorityClassName": "low"}, limits=limits) == []


def test_what_the_virtual_kubelet_forges_is_allowed() -> None:
    pod = {
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "labels": {"app": "web"}},
        "spec": {
            "nodeName": "virtual",
            "serviceAccountName": "builder",
            "priorityClassName": "high",
            "priority": 5,
            "tolerations": [{"operator": "Exists"}],
            "schedulerName": "default-scheduler",
            "securityContext": {"runAsUser": 1000, "fsGroup": 5},
            "restartPolicy": "Always",
            "dnsPolicy": "ClusterFirst",
            "volumes": [{"name": "c", "configMap": {"name": "c"}}, {"name": "e", "emptyDir": {}}],
            "containers": [
                {
                    **MAIN,
                    "ports": [{"containerPort": 80}],
                    "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
                    "securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}},
                    "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}],
                    "resources": {"requests": {"cpu": "1"}},
                }
            ],
        },
    }
    body = forge_pod(
        pod,
        context=ForgeContext(
            node_name="virtual", consumer_id="blue", remote_namespace="shop-blue", node_selector={"gpu": "yes"}
        ),
        restart_base={"main": 1},
    ).body
    assert check(body, consumer_id="blue", limits=Limits()) == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
known = st.sampled_from(
    [
        "containers",
        "volumes",
        "securityContext",
        "affinity",
        "resources",
        "ports",
        "lifecycle",
        "priorityClassName",
        "runtimeClassName",
        "name",
    ]
)


@given(
    st.dictionaries(
        known, st.recursive(json_values, lambda inner: st.lists(st.dictionaries(known, inner)), max_leaves=5)
    )
)
def test_a18_whatever_comes_is_judged_and_never_crashes(spec: Json) -> None:
    plain = msgspec.json.decode(msgspec.json.encode(spec))
    for limits in (NONE, Limits(node_labels=frozenset(), pod_resources={"cpu": "1"})):
        if not check({"metadata": {}, "spec": plain}, consumer_id="blue", limits=limits):
            with contextlib.suppress(QuantityError):
                usage(plain)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"nodeSelector": {"pool": "gpu"}}, "spec.nodeSelector[pool]"),
        (
            {
                "affinity": {
                    "nodeAffinity": {
                        "requiredDuringSchedulingIgnoredDuringExecution": {
                            "nodeSelectorTerms": [{"matchExpressions": [{"key": "pool", "operator": "Exists"}]}]
                        }
                    }
                }
            },
            "spec.affinity.nodeAffinity.nodeSelectorTerms[0].matchExpressions[0]",
        ),
        (container(resources={"requests": {"cpu": "5"}}), "spec.containers"),
        (container(resources={"limits": {"cpu": "5"}}), "spec.containers"),
        (container(resources={"requests": {"cpu": "much"}}), "spec.containers"),
        ({"resources": "all"}, "spec.resources"),
    ],
)
def test_nodes_and_sizes_are_limited_where_the_provider_says_so(spec: Json, field: str) -> None:
    tight = Limits(node_labels=frozenset({"zone"}), pod_resources={"cpu": "4"})
    assert found(spec, limits=tight) == [field]


def test_what_the_limits_allow_passes() -> None:
    tight = Limits(node_labels=frozenset({"zone"}), pod_resources={"cpu": "4"})
    spec = {"nodeSelector": {"zone": "a", "kubernetes.io/os": "linux"}, **container(resources={"limits": {"cpu": "4"}})}
    assert found(spec, limits=tight) == []
