"""Objects that tests create: short to write, and allowed on virtual nodes."""

from typing import Any

IMAGE = "isthmus.dev/lab/agnhost:latest"
TOLERATION = {"key": "virtual-kubelet.io/provider", "operator": "Equal", "value": "isthmus", "effect": "NoSchedule"}
VIRTUAL = {"type": "virtual-kubelet"}

Manifest = dict[str, Any]


def container(name: str = "main", *args: str, **fields: Any) -> Manifest:
    """A container of the lab's image; by default it serves HTTP on 8080."""
    return {
        "name": name,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": list(args) or ["netexec", "--http-port=8080"],
        **fields,
    }


def shell(name: str, script: str, **fields: Any) -> Manifest:
    """A container that runs a shell script."""
    return {**container(name), "args": [script], "command": ["sh", "-c"], **fields}


def pod_spec(*containers: Manifest, virtual: bool = True, **fields: Any) -> Manifest:
    """A pod spec that goes to a virtual node, or may go to any with `virtual=False`. Short grace: tests end soon."""
    spec: Manifest = {
        "containers": list(containers) or [container()],
        "tolerations": [TOLERATION],
        "terminationGracePeriodSeconds": 1,
        **fields,
    }
    if virtual:
        spec.setdefault("nodeSelector", VIRTUAL)
    return spec


def pod(name: str, *containers: Manifest, metadata: Manifest | None = None, **fields: Any) -> Manifest:
    """A pod for a virtual node."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **(metadata or {})},
        "spec": pod_spec(*containers, **fields),
    }


def template(app: str, *containers: Manifest, **fields: Any) -> Manifest:
    """A pod template labelled `app`."""
    return {"metadata": {"labels": {"app": app}}, "spec": pod_spec(*containers, **fields)}


def workload(kind: str, name: str, *containers: Manifest, replicas: int = 1, **fields: Any) -> Manifest:
    """A Deployment, StatefulSet or DaemonSet."""
    spec: Manifest = {"selector": {"matchLabels": {"app": name}}, "template": template(name, *containers, **fields)}
    if kind != "DaemonSet":
        spec["replicas"] = replicas
    if kind == "StatefulSet":
        spec["serviceName"] = name
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def job(name: str, *containers: Manifest, spec: Manifest | None = None, **fields: Any) -> Manifest:
    """A Job whose pods are not restarted in place."""
    fields.setdefault("restartPolicy", "Never")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {**(spec or {}), "template": template(name, *containers, **fields)},
    }


def config_map(name: str, immutable: bool = False, **data: str) -> Manifest:
    """A ConfigMap."""
    made: Manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
    return {**made, "immutable": True} if immutable else made


def secret(name: str, **data: str) -> Manifest:
    """An Opaque Secret."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}
