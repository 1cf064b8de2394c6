from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from reflection.forge import names
from reflection.forge.fields import POD_SPEC, Treatment
from reflection.forge.model import ForgeContext, Ref, Refused, TokenSpec
from reflection.forge.pod import forge_pod, is_mirror
from reflection.forge.references import references
from tests.unit.reflection.forge.conftest import UID

Pod = dict[str, Any]


def env(pod: Pod, context: ForgeContext, path: str) -> dict[str, Any]:
    pod["spec"]["containers"][0]["env"] = [{"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}]
    variables = forge_pod(pod, context=context).body["spec"]["containers"][0]["env"]
    return next(dict(variable) for variable in variables if variable["name"] == "X")


def test_golden_pod(pod: Pod, context: ForgeContext) -> None:
    before = copy.deepcopy(pod)
    forged = forge_pod(pod, context=context)
    assert pod == before
    record = json.loads(forged.body["metadata"]["annotations"].pop(names.CARRIED))
    assert record["labels"] == ["app"]
    assert record["annotations"] == ["team"]
    assert forged.body == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web-0",
            "namespace": "shop-c1",
            "labels": {
                "app": "web",
                "app.kubernetes.io/managed-by": "isthmus",
                "offloading.isthmus.dev/node": "virtual-1",
                "offloading.isthmus.dev/consumer": "c1",
            },
            "annotations": {
                "team": "a",
                "offloading.isthmus.dev/origin-namespace": "shop",
                "offloading.isthmus.dev/origin-name": "web-0",
                "offloading.isthmus.dev/origin-uid": UID,
            },
        },
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "securityContext": {},
            "containers": [
                {
                    "name": "web",
                    "image": "agnhost:1",
                    "resources": {"requests": {"cpu": "100m"}},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }
    assert forged.references.config_maps == frozenset()
    assert forged.notes == ()
    assert forged.token_requests == ()


def test_unknown_fields_survive(pod: Pod, context: ForgeContext) -> None:
    pod["spec"]["fromTheFuture"] = {"a": [1]}
    pod["spec"]["containers"][0]["alsoNew"] = "b"
    spec = forge_pod(pod, context=context).body["spec"]
    assert spec["fromTheFuture"] == {"a": [1]}
    assert spec["containers"][0]["alsoNew"] == "b"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hostNetwork", True),
        ("hostPID", True),
        ("hostIPC", True),
        ("runtimeClassName", "gvisor"),
        ("resourceClaims", [{"name": "gpu"}]),
        ("volumes", [{"name": "v", "hostPath": {"path": "/"}}]),
        ("volumes", [{"name": "v", "nfs": {"server": "s", "path": "/"}}]),
        ("volumes", [{"name": "v", "csi": {"driver": "d"}}]),
        ("volumes", [{"name": "v", "projected": {"sources": [{"podCertificate": {"signerName": "s"}}]}}]),
        ("volumes", [{"name": "v", "projected": {"sources": [{"clusterTrustBundle": {"path": "p"}}]}}]),
        ("resources", {"claims": [{"name": "gpu"}]}),
    ],
)
def test_refused_fields_say_where_and_what_to_do(pod: Pod, context: ForgeContext, field: str, value: Any) -> None:
    pod["spec"][field] = value
    with pytest.raises(Refused) as caught:
        forge_pod(pod, context=context)
    assert caught.value.field.startswith(f"spec.{field}")
    assert len(caught.value.reason) > 20


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ports", [{"containerPort": 80, "hostPort": 80}]),
        ("volumeDevices", [{"name": "v", "devicePath": "/dev/x"}]),
        ("resources", {"claims": [{"name": "gpu"}]}),
    ],
)
@pytest.mark.parametrize("kind", ["containers", "initContainers"])
def test_refused_in_containers(pod: Pod, context: ForgeContext, kind: str, field: str, value: Any) -> None:
    pod["spec"][kind] = [{"name": "c", "image": "i", field: value}]
    with pytest.raises(Refused) as caught:
        forge_pod(pod, context=context)
    assert caught.value.field.startswith(f"spec.{kind}[0].{field}")


def test_switched_off_is_not_refused(pod: Pod, context: ForgeContext) -> None:
    pod["spec"].update(hostNetwork=False, hostPID=False, resourceClaims=[], runtimeClassName="")
    spec = forge_pod(pod, context=context).body["spec"]
    assert not {"hostNetwork", "hostPID", "resourceClaims", "runtimeClassName"} & spec.keys()


def test_runtime_class_by_mapping(pod: Pod, context: ForgeContext) -> None:
    pod["spec"]["runtimeClassName"] = "sandboxed"
    mapped = replace(context, runtime_classes={"sandboxed": "gvisor"})
    assert forge_pod(pod, context=mapped).body["spec"]["runtimeClassName"] == "gvisor"


def test_a_runtime_class_that_only_says_where_is_left_out(pod: Pod, context: ForgeContext) -> None:
    pod["spec"]["runtimeClassName"] = "isthmus"
    mapped = replace(context, runtime_classes={"isthmus": ""})
    assert "runtimeClassName" not in forge_pod(pod, context=mapped).body["spec"]


def test_mirror_pod_is_not_run(pod: Pod, context: ForgeContext) -> None:
    assert not is_mirror(pod)
    pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "x"
    assert is_mirror(pod)
    with pytest.raises(Refused):
        forge_pod(pod, context=context)


def test_only_platform_survives_of_placement(pod: Pod, context: ForgeContext) -> None:
    arch = {"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}
    zone = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["home"]}
    required = {"nodeSelectorTerms": [{"matchExpressions": [arch, zone]}]}
    pod["spec"]["nodeSelector"] = {"kubernetes.io/os": "linux", "type": "virtual-kubelet"}
    pod["spec"]["affinity"] = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": required,
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}],
        },
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "kubernetes.io/os"}]},
    }
    spec = forge_pod(pod, context=context).body["spec"]
    assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert spec["affinity"] == {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [arch]}]}
        }
    }
    required["nodeSelectorTerms"].append({"matchExpressions": [zone]})
    assert "affinity" not in forge_pod(pod, context=context).body["spec"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.namespace", "shop"),
        ("metadata.uid", UID),
        ("spec.nodeName", "virtual-1"),
        ("spec.serviceAccountName", "shopkeeper"),
        ("status.hostIP", "198.18.0.9"),
        ("status.hostIPs", "198.18.0.9,fd00::9"),
        ("metadata.labels['offloading.isthmus.dev/node']", "spoofed"),
        ("metadata.labels['app.kubernetes.io/managed-by']", ""),
        ("metadata.annotations['offloading.isthmus.dev/origin-uid']", ""),
        ("metadata.annotations['kubectl.kubernetes.io/last-applied-configuration']", "{}"),
    ],
)
def test_downward_env_shows_the_consumers_value(pod: Pod, context: ForgeContext, path: str, value: str) -> None:
    assert env(pod, context, path) == {"name": "X", "value": value}


@pytest.mark.parametrize(
    "path",
    ["metadata.name", "status.podIP", "status.podIPs", "metadata.labels['app']", "metadata.annotations['team']"],
)
def test_downward_env_that_is_the_same_everywhere_stays(pod: Pod, context: ForgeContext, path: str) -> None:
    assert env(pod, context, path)["valueFrom"] == {"fieldRef": {"fieldPath": path}}


def test_literals_are_not_expanded(pod: Pod, context: ForgeContext) -> None:
    pod["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"] = "$(HOME) $$(X) $"
    path = "metadata.annotations['kubectl.kubernetes.io/last-applied-configuration']"
    assert env(pod, context, path)["value"] == "$$(HOME) $$$$(X) $$"


def test_downward_volume_reads_annotations(pod: Pod, context: ForgeContext) -> None:
    paths = ["metadata.name", "metadata.namespace", "metadata.uid", "metadata.labels", "metadata.annotations"]
    paths += ["metadata.labels['app']", "metadata.labels['offloading.isthmus.dev/node']"]
    items = [{"path": f"f{i}", "fieldRef": {"fieldPath": path}} for i, path in enumerate(paths)]
    items.append({"path": "cpu", "resourceFieldRef": {"containerName": "web", "resource": "limits.cpu"}})
    pod["spec"]["volumes"] = [{"name": "info", "downwardAPI": {"items": items}}]
    pod["metadata"]["labels"]["quote"] = 'a"b'
    body = forge_pod(pod, context=context).body
    annotations = body["metadata"]["annotations"]
    shown = []
    forged = body["spec"]["volumes"][0]["downwardAPI"]["items"]
    for item in forged[:-1]:
        path = item["fieldRef"]["fieldPath"]
        key = path.removeprefix("metadata.annotations['").removesuffix("']")
        shown.append(annotations[key] if path.startswith("metadata.annotations['") else path)
    assert forged[-1] == items[-1]
    assert shown == [
        "metadata.name",
        "shop",
        UID,
        'app="web"\noffloading.isthmus.dev/node="spoofed"\nquote="a\\"b"',
        'kubectl.kubernetes.io/last-applied-configuration="{}"\nteam="a"',
        "metadata.labels['app']",
        "spoofed",
    ]


def test_too_much_for_annotations_is_refused(pod: Pod, context: ForgeContext) -> None:
    pod["metadata"]["annotations"]["big"] = "x" * 150_000
    assert forge_pod(pod, context=context)
    item = {"path": "a", "fieldRef": {"fieldPath": "metadata.annotations"}}
    pod["spec"]["volumes"] = [{"name": "info", "downwardAPI": {"items": [item]}}]
    with pytest.raises(Refused, match="shorten"):
        forge_pod(pod, context=context)


def test_token_volume_with_api_access(pod: Pod, with_api: ForgeContext) -> None:
    forged = forge_pod(pod, context=with_api)
    spec = forged.body["spec"]
    secret = names.token_secret_name("web-0", UID)
    assert spec["volumes"][1]["projected"]["sources"] == [
        {"secret": {"name": secret, "items": [{"key": "token", "path": "token"}]}},
        {"configMap": {"name": "kube-root-ca.crt-c1", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [
                    {
                        "path": "namespace",
                        "fieldRef": {
                            "apiVersion": "v1",
                            "fieldPath": f"metadata.annotations['{names.ORIGIN_NAMESPACE}']",
                        },
                    }
                ]
            }
        },
    ]
    assert len(spec["containers"][0]["volumeMounts"]) == 2
    assert spec["containers"][0]["env"] == [
        {"name": "KUBERNETES_SERVICE_HOST", "value": "203.0.113.5"},
        {"name": "KUBERNETES_SERVICE_PORT", "value": "6443"},
        {"name": "KUBERNETES_SERVICE_PORT_HTTPS", "value": "6443"},
    ]
    assert forged.token_requests == (TokenSpec(secret, "token", "", 3600),)
    assert forged.references.config_maps == {Ref("kube-root-ca.crt")}
    assert spec["automountServiceAccountToken"] is False


def test_users_api_address_stands(pod: Pod, with_api: ForgeContext) -> None:
    mine = {"name": "KUBERNETES_SERVICE_HOST", "value": "mine"}
    pod["spec"]["containers"][0]["env"] = [mine]
    variables = forge_pod(pod, context=with_api).body["spec"]["containers"][0]["env"]
    assert [one for one in variables if one["name"] == "KUBERNETES_SERVICE_HOST"] == [mine]


def own_token(audience: str) -> dict[str, Any]:
    source = {"serviceAccountToken": {"path": "t", "audience": audience, "expirationSeconds": 600}}
    return {"name": "mine", "projected": {"sources": [source, {"secret": {"name": "s"}}]}}


def test_users_own_token_without_api_access_is_left_out_and_told(pod: Pod, context: ForgeContext) -> None:
    pod["spec"]["volumes"] = [own_token("vault")]
    forged = forge_pod(pod, context=context)
    assert forged.body["spec"]["volumes"] == [{"name": "mine", "projected": {"sources": [{"secret": {"name": "s"}}]}}]
    assert [note.reason for note in forged.notes] == ["OffloadWithoutToken"]


def test_users_own_tokens_get_keys_of_their_own(pod: Pod, with_api: ForgeContext) -> None:
    pod["spec"]["volumes"] += [own_token("vault"), own_token("db"), own_token("vault")]
    tokens = forge_pod(pod, context=with_api).token_requests
    assert [token.audience for token in tokens] == ["", "vault", "db"]
    assert len({token.key for token in tokens}) == 3
    assert {token.expiration_seconds for token in tokens[1:]} == {600}


def test_no_token_lives_longer_than_an_hour(pod: Pod, with_api: ForgeContext) -> None:
    """Nor is an API server asked for just what it turns into a year (see `reflection.forge.volumes`)."""
    long = own_token("vault")
    long["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] = 86_400
    pod["spec"]["volumes"].append(long)
    assert [token.expiration_seconds for token in forge_pod(pod, context=with_api).token_requests] == [3600, 3600]


def test_root_ca_is_renamed_wherever_it_is_named(pod: Pod, context: ForgeContext) -> None:
    container = pod["spec"]["containers"][0]
    container["env"] = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "kube-root-ca.crt", "key": "ca.crt"}}}]
    container["envFrom"] = [{"configMapRef": {"name": "kube-root-ca.crt"}, "prefix": "P_"}]
    pod["spec"]["volumes"] = [{"name": "ca", "configMap": {"name": "kube-root-ca.crt"}}]
    forged = forge_pod(pod, context=context)
    assert json.dumps(forged.body["spec"]).count('"kube-root-ca.crt-c1"') == 3
    assert '"kube-root-ca.crt"' not in json.dumps(forged.body["spec"])
    assert forged.references.config_maps == {Ref("kube-root-ca.crt")}
    assert context.config_map_name("kube-root-ca.crt") == "kube-root-ca.crt-c1"
    assert context.config_map_name("other") == "other"


def test_references_of_all_kinds_of_containers_and_volumes(pod: Pod) -> None:
    def container(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": f"{name}-key", "key": "k", "optional": True}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": f"{name}-key", "key": "k"}}},
            ],
            "envFrom": [{"configMapRef": {"name": f"{name}-all"}}, {"secretRef": {"name": f"{name}-all"}}],
        }

    pod["spec"].update(
        containers=[container("main")],
        initContainers=[container("init")],
        ephemeralContainers=[container("debug")],
        imagePullSecrets=[{"name": "pull"}, {}],
    )
    pod["spec"]["volumes"] += [
        {"name": "a", "configMap": {"name": "vol", "optional": True}},
        {"name": "b", "secret": {"secretName": "vol"}},
        {
            "name": "c",
            "projected": {"sources": [{"configMap": {"name": "vol"}}, {"secret": {"name": "p", "optional": True}}]},
        },
    ]
    found = references(pod)
    assert found.config_maps == {
        *(Ref(f"{kind}-key", optional=True) for kind in ("main", "init", "debug")),
        *(Ref(f"{kind}-all") for kind in ("main", "init", "debug")),
        Ref("vol"),
    }
    assert found.secrets == {
        *(Ref(f"{kind}-{which}") for kind in ("main", "init", "debug") for which in ("key", "all")),
        Ref("vol"),
        Ref("p", optional=True),
    }
    assert found.pull_secrets == {"pull"}


def test_long_names_give_valid_labels_and_names() -> None:
    node = "n" * 60 + "." + "m" * 60
    labels = ForgeContext(node_name=node, consumer_id="c" * 80, remote_namespace="r").labels
    assert all(len(value) <= 63 and value[0].isalnum() and value[-1].isalnum() for value in labels.values())
    assert names.label_value(node) != names.label_value(node + "x")
    assert names.label_value("short.name") == "short.name"
    secret = names.token_secret_name("p" * 253, UID)
    assert len(secret) <= 253
    assert secret != names.token_secret_name("p" * 252, UID)


def test_users_managed_by_stands(pod: Pod, context: ForgeContext) -> None:
    pod["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm"
    labels = forge_pod(pod, context=context).body["metadata"]["labels"]
    assert labels["app.kubernetes.io/managed-by"] == "Helm"
    assert labels[names.NODE_LABEL] == "virtual-1"


def test_dropped_fields_never_appear(pod: Pod, context: ForgeContext) -> None:
    dropped = [name for name, rule in POD_SPEC.items() if rule.treatment is Treatment.DROP]
    pod["spec"].update(dict.fromkeys(dropped, "set"))
    spec = forge_pod(pod, context=context).body["spec"]
    assert not spec.keys() & set(dropped)
    assert len(dropped) > 8


def test_claims_are_named_as_here_and_ephemeral_volumes_by_their_own(pod: Pod, context: ForgeContext) -> None:
    pod["spec"]["volumes"] = [
        {"name": "v", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
        {"name": "w", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
    ]
    forged = forge_pod(pod, context=context).body["spec"]["volumes"]
    assert forged == [
        {"name": "v", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
        {"name": "w", "persistentVolumeClaim": {"claimName": f"{pod['metadata']['name']}-w"}},
    ]
