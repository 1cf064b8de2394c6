"""What pod security's baseline forbids, as far as the table of fields does not tell. Pure.

The API server enforces the level of a namespace by its label; this holds where that admission is off. Sources:
https://kubernetes.io/docs/concepts/security/pod-security-standards and k8s.io/pod-security-admission, policy/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

Json = Mapping[str, Any]
Found = Iterator[tuple[str, str]]
"""Pairs of a field's path and why it may not be so."""

CAPABILITIES: Final = frozenset(
    {
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    }
)
SYSCTLS: Final = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
    }
)
_SELINUX_TYPES: Final = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS: Final = ("postStart", "preStop")


def pod(spec: Json, path: str) -> Found:
    """What a PodSpec asks for beyond its containers."""
    context = _object(spec.get("securityContext"))
    where = f"{path}.securityContext"
    for index, sysctl in enumerate(_items(context.get("sysctls"))):
        if _object(sysctl).get("name") not in SYSCTLS:
            yield f"{where}.sysctls[{index}]", "only safe sysctls are allowed"
    yield from _shared(context, where)


def container(spec: Json, path: str) -> Found:
    """What a container asks for."""
    context, where = _object(spec.get("securityContext")), f"{path}.securityContext"
    if context.get("privileged"):
        yield f"{where}.privileged", "privileged containers are not allowed"
    for name in _items(_object(context.get("capabilities")).get("add")):
        if str(name) not in CAPABILITIES:
            yield f"{where}.capabilities.add", f"capability {name!r} is not allowed"
    if context.get("procMount") not in (None, "", "Default"):
        yield f"{where}.procMount", "only the default is allowed"
    yield from _shared(context, where)
    for index, port in enumerate(_items(spec.get("ports"))):
        if _object(port).get("hostPort"):
            yield f"{path}.ports[{index}].hostPort", "ports of the provider's nodes are not for consumers' pods"
    for field in _PROBES:
        yield from _host(_object(spec.get(field)), f"{path}.{field}")
    lifecycle = _object(spec.get("lifecycle"))
    for field in _HOOKS:
        yield from _host(_object(lifecycle.get(field)), f"{path}.lifecycle.{field}")


def _shared(context: Json, path: str) -> Found:
    """What pods and containers have in common."""
    if _object(context.get("windowsOptions")).get("hostProcess"):
        yield f"{path}.windowsOptions.hostProcess", "host processes are not allowed"
    for field in ("seccompProfile", "appArmorProfile"):
        if _object(context.get(field)).get("type") == "Unconfined":
            yield f"{path}.{field}", "Unconfined is not allowed"
    selinux = _object(context.get("seLinuxOptions"))
    if selinux.get("user") or selinux.get("role") or str(selinux.get("type") or "") not in _SELINUX_TYPES:
        yield f"{path}.seLinuxOptions", "user, role and other types than those of containers are not allowed"


def _host(action: Json, path: str) -> Found:
    """A kubelet connects to this host: it is a way into the provider's network."""
    for field in ("httpGet", "tcpSocket"):
        if _object(action.get(field)).get("host"):
            yield f"{path}.{field}.host", "a probe or hook may only go to the pod itself"


def _object(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
