"""The one table of what becomes of each field of a consumer's pod at the provider.

`walk.apply` follows it, `docs/pod-fields.md` is printed from it, and `uncovered` compares it with an API server's own
schema. A field that is not in the table belongs to a newer API than this program knows; it is copied, as design.md
asks ("unknown fields survive the copy"). What a value means only to the consumer's scheduler is dropped with its
reason; what the pod's owner would miss is translated or refused, never silently lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

_SCHEMA_PREFIX = "io.k8s.api.core.v1."


class Treatment(Enum):
    """What is done with a field."""

    COPY = "copied"
    DROP = "dropped"
    TRANSLATE = "translated"
    REFUSE = "refused"


@dataclass(frozen=True, slots=True)
class Rule:
    """Treatment of one field; `why` is for people and, where refused, tells what to do instead."""

    treatment: Treatment
    why: str = ""
    by: str = ""
    """Name of the translator, among those of the module that forges this kind."""


Rules = Mapping[str, Rule]

_COPY = Rule(Treatment.COPY)


def _copy(*fields: str) -> dict[str, Rule]:
    return dict.fromkeys(fields, _COPY)


def _drop(why: str) -> Rule:
    return Rule(Treatment.DROP, why)


def _translate(by: str, why: str) -> Rule:
    return Rule(Treatment.TRANSLATE, why, by)


def _refuse(why: str) -> Rule:
    return Rule(Treatment.REFUSE, why)


_NODE_SHARED = "would share the {} of a provider node; remove it, or keep the pod on nodes of this cluster"
_SCHEDULING = "speaks of the consumer's nodes and pods, and its scheduler has decided already"
_IDENTITY = "the consumer's service accounts are unknown at the provider; the pod runs as its namespace's default"
_NO_STORAGE = (
    "this storage belongs to the consumer cluster and can't be reached from the provider; use emptyDir, configMap, "
    "secret or projected volumes, or keep the pod on nodes of this cluster"
)
_NO_CLAIMS = "devices claimed in the consumer can't be used at the provider; ask for an extended resource instead"

POD_SPEC: Final[Rules] = {
    **_copy(
        "activeDeadlineSeconds",
        "hostAliases",
        "hostUsers",
        "hostname",
        "hostnameOverride",
        "imagePullSecrets",
        "os",
        "restartPolicy",
        "securityContext",
        "setHostnameAsFQDN",
        "shareProcessNamespace",
        "subdomain",
        "terminationGracePeriodSeconds",
    ),
    "affinity": _translate("affinity", "only what required node affinity says of os and arch; the rest " + _SCHEDULING),
    "automountServiceAccountToken": _translate(
        "off", "false: the provider's own tokens are not for the consumer's pods"
    ),
    "containers": _translate("containers", "field by field, see Container"),
    "dnsConfig": _translate("same", "copied, and under ClusterFirst the consumer's names added (`--cluster-dns`)"),
    "dnsPolicy": _translate("same", "copied; ClusterFirst becomes None with the consumer's names (`--cluster-dns`)"),
    "enableServiceLinks": _translate("off", "false: it would show the provider's services"),
    "ephemeralContainers": _translate("none", "added by their subresource after creation, see EphemeralContainer"),
    "hostIPC": _refuse(_NODE_SHARED.format("IPC namespace")),
    "hostNetwork": _refuse(_NODE_SHARED.format("network")),
    "hostPID": _refuse(_NODE_SHARED.format("process namespace")),
    "initContainers": _translate("init_containers", "field by field, see Container"),
    "nodeName": _drop("names the virtual node; the provider's scheduler chooses a node of its own"),
    "nodeSelector": _translate(
        "node_selector",
        "only kubernetes.io/os and kubernetes.io/arch, and what the virtual node stands for; the rest " + _SCHEDULING,
    ),
    "overhead": _drop("set by the consumer's RuntimeClass; the provider sets its own"),
    "preemptionPolicy": _drop("follows from the priority class, which is the consumer's"),
    "priority": _drop("priorities of the two clusters do not compare"),
    "priorityClassName": _drop("priority classes are the consumer's; the provider's default applies"),
    "readinessGates": _drop("their conditions are set at the consumer; Ready there is computed with them"),
    "resourceClaims": _refuse(_NO_CLAIMS),
    "resources": _translate("resources", "copied; claims are refused"),
    "runtimeClassName": _translate("runtime_class", "by the configured mapping; refused where that has no entry"),
    "schedulerName": _drop("names a scheduler of the consumer"),
    "schedulingGates": _drop("a pod bound to a node has passed them"),
    "schedulingGroup": _drop(_SCHEDULING),
    "serviceAccount": _drop(_IDENTITY),
    "serviceAccountName": _drop(_IDENTITY),
    "tolerations": _drop("speak of taints of the consumer's nodes; at the provider they might open its reserved nodes"),
    "topologySpreadConstraints": _drop(_SCHEDULING),
    "volumes": _translate("volumes", "by source, see Volume"),
    "workloadRef": _drop(_SCHEDULING),
}

_CONTAINER_COMMON: Final[Rules] = {
    **_copy(
        "args",
        "command",
        "image",
        "imagePullPolicy",
        "lifecycle",
        "livenessProbe",
        "name",
        "readinessProbe",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "securityContext",
        "startupProbe",
        "stdin",
        "stdinOnce",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "tty",
        "workingDir",
    ),
    "env": _translate("env", "downward API fields show the consumer's values, see EnvVarSource"),
    "envFrom": _translate("env_from", "the ConfigMap kube-root-ca.crt is the reflected one"),
    "ports": _translate("ports", "copied; a hostPort is refused"),
    "resources": _translate("resources", "copied; claims are refused"),
    "volumeDevices": _refuse("block devices belong to the consumer cluster; use a volume mount of a supported volume"),
    "volumeMounts": _translate("volume_mounts", "those of a removed token volume go with it"),
}

CONTAINER: Final[Rules] = _CONTAINER_COMMON
EPHEMERAL_CONTAINER: Final[Rules] = {**_CONTAINER_COMMON, **_copy("targetContainerName")}

ENV_VAR_SOURCE: Final[Rules] = {
    **_copy("fileKeyRef", "resourceFieldRef", "secretKeyRef"),
    "configMapKeyRef": _translate("config_map", "the ConfigMap kube-root-ca.crt is the reflected one"),
    "fieldRef": _translate("field_ref", "a literal of the consumer's value where the remote pod would show another"),
}

ENV_FROM_SOURCE: Final[Rules] = {
    **_copy("prefix", "secretRef"),
    "configMapRef": _translate("config_map", "the ConfigMap kube-root-ca.crt is the reflected one"),
}

VOLUME: Final[Rules] = {
    **_copy("emptyDir", "image", "name", "secret"),
    "configMap": _translate("config_map", "the ConfigMap kube-root-ca.crt is the reflected one"),
    "downwardAPI": _translate("downward_api", "fields are read from annotations that hold the consumer's values"),
    "projected": _translate("projected", "by source, see VolumeProjection"),
    "csi": _refuse("CSI drivers are the consumer's; use emptyDir, configMap, secret or projected volumes"),
    "persistentVolumeClaim": Rule(
        Treatment.COPY,
        "a claim of a class of isthmus is made at the provider before the pod; one of another is refused",
    ),
    "ephemeral": _translate("ephemeral", "the claim that Kubernetes made for it"),
    "gitRepo": _refuse("gitRepo volumes are refused for safety; clone in an init container into an emptyDir"),
    "hostPath": _refuse("would show files of a provider node; use emptyDir, configMap, secret or projected volumes"),
    **dict.fromkeys(
        (
            "awsElasticBlockStore",
            "azureDisk",
            "azureFile",
            "cephfs",
            "cinder",
            "fc",
            "flexVolume",
            "flocker",
            "gcePersistentDisk",
            "glusterfs",
            "iscsi",
            "nfs",
            "photonPersistentDisk",
            "portworxVolume",
            "quobyte",
            "rbd",
            "scaleIO",
            "storageos",
            "vsphereVolume",
        ),
        _refuse(_NO_STORAGE),
    ),
}

PROJECTED: Final[Rules] = {
    **_copy("defaultMode"),
    "sources": _translate("sources", "by source, see VolumeProjection"),
}

VOLUME_PROJECTION: Final[Rules] = {
    **_copy("secret"),
    "clusterTrustBundle": _refuse("trust bundles are the consumer's; put the certificates into a ConfigMap"),
    "configMap": _translate("config_map", "the ConfigMap kube-root-ca.crt is the reflected one"),
    "downwardAPI": _translate("downward_api", "fields are read from annotations that hold the consumer's values"),
    "podCertificate": _refuse("pod certificates are signed for the consumer's kubelets; use a Secret"),
    "serviceAccountToken": _translate("token", "with API access a Secret of consumer tokens, else left out"),
}

POD_SECURITY_CONTEXT: Final[Rules] = _copy(
    "appArmorProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seLinuxChangePolicy",
    "seLinuxOptions",
    "seccompProfile",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "sysctls",
    "windowsOptions",
)

AFFINITY: Final[Rules] = {
    "nodeAffinity": _translate("node_affinity", "only what required terms say of os and arch"),
    "podAffinity": _drop(_SCHEDULING),
    "podAntiAffinity": _drop(_SCHEDULING),
}

TABLE: Final[Mapping[str, Rules]] = {
    "PodSpec": POD_SPEC,
    "Container": CONTAINER,
    "EphemeralContainer": EPHEMERAL_CONTAINER,
    "EnvVarSource": ENV_VAR_SOURCE,
    "EnvFromSource": ENV_FROM_SOURCE,
    "Volume": VOLUME,
    "ProjectedVolumeSource": PROJECTED,
    "VolumeProjection": VOLUME_PROJECTION,
    "PodSecurityContext": POD_SECURITY_CONTEXT,
    "Affinity": AFFINITY,
}
"""Schema name in k8s.io/api/core/v1 -> its fields. Kinds not named here are treated whole, as their field says."""


def uncovered(schema: Mapping[str, Any]) -> set[str]:
    """List fields of an OpenAPI document (v3 `/openapi/v3/api/v1`, or v2) that the table lacks, as `Kind.field`.

    A kind that the document lacks is listed by its bare name: then the check itself would be hollow.
    """
    schemas = schema.get("components", {}).get("schemas") or schema.get("definitions") or {}
    missing = set()
    for kind, rules in TABLE.items():
        properties = schemas.get(_SCHEMA_PREFIX + kind, {}).get("properties")
        if not properties:
            missing.add(kind)
            continue
        missing.update(f"{kind}.{field}" for field in properties if field not in rules)
    return missing
