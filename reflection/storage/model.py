"""Claims, volumes and their names, as far as storage works with them. Pure.

A claim of a class of ours waits for its first pod (WaitForFirstConsumer). When the scheduler has chosen a virtual
node, the manager makes a PersistentVolume stub whose affinity holds pods to that provider; the virtual kubelet makes
the claim of the same name there before it makes the pod, and the provider's own classes make the volume.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kube.objects import Metadata
from kube.resources import Resource
from reflection.scheduling.names import PROVIDER_LABEL

Json = dict[str, Any]

CLAIMS: Final = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUMES: Final = Resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
STORAGE_CLASSES: Final = Resource("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)

PROVISIONER: Final = "offloading.isthmus.dev/volumes"
DRIVER: Final = "offloading.isthmus.dev"
FINALIZER: Final = "offloading.isthmus.dev/volume"
PROVISIONED_BY: Final = "pv.kubernetes.io/provisioned-by"
STORAGE_PROVISIONER: Final = "volume.kubernetes.io/storage-provisioner"
SELECTED_NODE: Final = "volume.kubernetes.io/selected-node"
REMOTE_NAMESPACE: Final = "remoteNamespace"
"""Volume attribute: where at the provider the claim is."""


class Requests(msgspec.Struct, frozen=True):
    """v1.VolumeResourceRequirements."""

    requests: dict[str, str] = {}


class ClaimSpec(msgspec.Struct, frozen=True, rename="camel"):
    """v1.PersistentVolumeClaimSpec."""

    storage_class_name: str = ""
    volume_name: str = ""
    volume_mode: str = "Filesystem"
    access_modes: tuple[str, ...] = ()
    resources: Requests = Requests()
    selector: msgspec.Raw | None = None
    data_source: msgspec.Raw | None = None
    data_source_ref: msgspec.Raw | None = None


class ClaimStatus(msgspec.Struct, frozen=True):
    """v1.PersistentVolumeClaimStatus."""

    phase: str = ""
    capacity: dict[str, str] = {}


class Claim(msgspec.Struct, frozen=True):
    """v1.PersistentVolumeClaim."""

    metadata: Metadata
    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()

    @property
    def size(self) -> str:
        """How much is asked for."""
        return self.spec.resources.requests.get("storage", "")

    @property
    def ours(self) -> bool:
        """Whether its class is one of ours."""
        return self.metadata.annotations.get(STORAGE_PROVISIONER) == PROVISIONER


class ClaimRef(msgspec.Struct, frozen=True):
    """The claim that a volume is for."""

    namespace: str = ""
    name: str = ""
    uid: str = ""


class Csi(msgspec.Struct, frozen=True, rename="camel"):
    """v1.CSIPersistentVolumeSource."""

    driver: str = ""
    volume_handle: str = ""
    volume_attributes: dict[str, str] = {}


class VolumeSpec(msgspec.Struct, frozen=True, rename="camel"):
    """v1.PersistentVolumeSpec."""

    capacity: dict[str, str] = {}
    claim_ref: ClaimRef = ClaimRef()
    csi: Csi = Csi()
    persistent_volume_reclaim_policy: str = "Retain"


class Phase(msgspec.Struct, frozen=True):
    """v1.PersistentVolumeStatus."""

    phase: str = ""


class Volume(msgspec.Struct, frozen=True):
    """v1.PersistentVolume of ours."""

    metadata: Metadata
    spec: VolumeSpec = VolumeSpec()
    status: Phase = Phase()

    @property
    def provider(self) -> str:
        """The provider that has its data."""
        return self.metadata.labels.get(PROVIDER_LABEL, "")


def volume_name(claim: Claim) -> str:
    """The stub's name, as external provisioners name theirs."""
    return f"pvc-{claim.metadata.uid}"


def unsupported(claim: Claim) -> str | None:
    """What of a claim cannot work, for its owner."""
    for field, value in (
        ("dataSource", claim.spec.data_source),
        ("dataSourceRef", claim.spec.data_source_ref),
        ("selector", claim.spec.selector),
    ):
        if value is not None and bytes(value) != b"null":
            return f"spec.{field}: snapshots, clones and chosen volumes do not cross to the provider; remove it"
    return None


def stub(claim: Claim, *, provider: str, remote_namespace: str, reclaim_policy: str) -> Json:
    """The PersistentVolume at the consumer."""
    meta = claim.metadata
    affinity = {"matchExpressions": [{"key": PROVIDER_LABEL, "operator": "In", "values": [provider]}]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": volume_name(claim),
            "labels": {"app.kubernetes.io/managed-by": "isthmus", PROVIDER_LABEL: provider},
            "annotations": {PROVISIONED_BY: PROVISIONER},
            "finalizers": [FINALIZER],
        },
        "spec": {
            "capacity": {"storage": claim.size},
            "accessModes": list(claim.spec.access_modes),
            "volumeMode": claim.spec.volume_mode,
            "storageClassName": claim.spec.storage_class_name,
            "persistentVolumeReclaimPolicy": reclaim_policy,
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
            },
            "csi": {
                "driver": DRIVER,
                "volumeHandle": f"{provider}/{remote_namespace}/{meta.name}/{meta.uid}",
                "volumeAttributes": {REMOTE_NAMESPACE: remote_namespace},
            },
            "nodeAffinity": {"required": {"nodeSelectorTerms": [affinity]}},
        },
    }


def remote_claim(
    claim: Claim, *, namespace: str, storage_class: str | None, labels: dict[str, str], annotations: dict[str, str]
) -> Json:
    """The claim at the provider; without a class it gets the provider's default."""
    spec: Json = {
        "accessModes": list(claim.spec.access_modes),
        "volumeMode": claim.spec.volume_mode,
        "resources": {"requests": {"storage": claim.size}},
    }
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim.metadata.name,
            "namespace": namespace,
            "labels": labels,
            "annotations": annotations,
        },
        "spec": spec,
    }
