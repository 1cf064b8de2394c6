"""Containers of the remote pod: environment, ports, mounts and resources."""

from __future__ import annotations

from typing import Any, Final

from reflection.forge import fields
from reflection.forge.model import Json, Refused
from reflection.forge.volumes import config_map
from reflection.forge.walk import Job, Translator, apply, unreachable


def container(value: Json, job: Job, path: str, *, rules: fields.Rules = fields.CONTAINER) -> dict[str, Any]:
    """Translate one container of any kind."""
    out = apply(value, rules, CONTAINER_TRANSLATORS, job=job, path=path)
    if job.context.api_access is not None:
        _add_api_address(out, job)
    return out


def containers(value: list[Json] | None, job: Job, path: str) -> list[Json]:
    """Translate spec.containers or spec.initContainers."""
    return [container(one, job, f"{path}[{index}]") for index, one in enumerate(value or ())]


def ephemeral_container(value: Json, job: Job, path: str) -> dict[str, Any]:
    """Translate one ephemeral container."""
    return container(value, job, path, rules=fields.EPHEMERAL_CONTAINER)


def resources(value: Json, _job: Job, path: str) -> Json:
    """Copy resources of a container or pod, without claims."""
    if value.get("claims"):
        raise Refused(f"{path}.claims", fields.POD_SPEC["resourceClaims"].why)
    return value


def _add_api_address(out: dict[str, Any], job: Job) -> None:
    """Say where the consumer's API server is, where a kubelet would speak of its own.

    First in the list, so that the user's variables may refer to these. client-go reads the first two; a kubelet
    leaves out those of its service variables that the container sets, kubelet_pods.go makeEnvironmentVariables.
    """
    access = job.context.api_access
    assert access is not None
    wanted = {
        "KUBERNETES_SERVICE_HOST": access.host,
        "KUBERNETES_SERVICE_PORT": str(access.port),
        "KUBERNETES_SERVICE_PORT_HTTPS": str(access.port),
    }
    users = out.get("env") or []
    taken = {variable.get("name") for variable in users}
    ours = [{"name": name, "value": value} for name, value in wanted.items() if name not in taken]
    out["env"] = [*ours, *users]


def _env(value: list[Json] | None, job: Job, path: str) -> list[Json]:
    return [
        _variable(variable, job, f"{path}[{index}]") if variable.get("valueFrom") else variable
        for index, variable in enumerate(value or ())
    ]


def _variable(variable: Json, job: Job, path: str) -> Json:
    if "fieldRef" not in variable["valueFrom"]:
        source = apply(variable["valueFrom"], fields.ENV_VAR_SOURCE, ENV_TRANSLATORS, job=job, path=path)
        return {**variable, "valueFrom": source}
    literal = _literal(variable["valueFrom"]["fieldRef"].get("fieldPath", ""), job)
    if literal is None:
        return variable
    # A kubelet expands $(NAME) in literals but not in what valueFrom yields; "$$" stands for one "$".
    return {"name": variable["name"], "value": literal.replace("$", "$$")}


def _literal(path: str, job: Job) -> str | None:
    """Give the consumer's value of a field where the remote pod has another; None where the same is found there."""
    ips = job.context.node_ips
    match path:
        case "spec.nodeName" | "spec.host":
            return str(job.pod["spec"].get("nodeName") or job.context.node_name)
        case "spec.serviceAccountName":
            return str(job.pod["spec"].get("serviceAccountName") or "default")
        case "status.hostIP":
            return ips[0] if ips else ""
        case "status.hostIPs":
            return ",".join(ips)
    return job.field_value(path) if job.differs(path) else None


def _env_from(value: list[Json] | None, job: Job, path: str) -> list[Json]:
    return [
        apply(source, fields.ENV_FROM_SOURCE, ENV_TRANSLATORS, job=job, path=f"{path}[{index}]")
        for index, source in enumerate(value or ())
    ]


def _ports(value: list[Json] | None, _job: Job, path: str) -> list[Json] | None:
    for index, port in enumerate(value or ()):
        if port.get("hostPort"):
            raise Refused(
                f"{path}[{index}].hostPort",
                "would take a port of a provider node; use a Service, or keep the pod on nodes of this cluster",
            )
    return value


def _volume_mounts(value: list[Json] | None, job: Job, _path: str) -> list[Json] | None:
    if not job.removed_volumes or not value:
        return value
    return [mount for mount in value if mount.get("name") not in job.removed_volumes] or None


CONTAINER_TRANSLATORS: Final[dict[str, Translator]] = {
    "env": _env,
    "env_from": _env_from,
    "ports": _ports,
    "resources": resources,
    "volume_mounts": _volume_mounts,
}
ENV_TRANSLATORS: Final[dict[str, Translator]] = {"config_map": config_map, "field_ref": unreachable}
