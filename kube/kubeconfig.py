"""Reading kubeconfig files and the files of a pod's service account. Blocking, and free of policy on time.

Only what decides where and as whom we connect is taken. What would be unsafe or could not be
honoured is refused instead of ignored: skipping TLS verification, plain HTTP off the machine,
impersonation, proxies, passwords.
"""

import base64
import binascii
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yarl import URL

from kube.errors import ConfigError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Plugin:
    """An exec plugin or auth provider, as the user entry of a context says."""

    user: dict[str, Any] = field(repr=False)
    context: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Material:
    """Everything read from files, and which files those were."""

    server: str
    server_name: str | None
    ca: bytes | None = field(repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    plugin: Plugin | None = None
    files: tuple[Path, ...] = ()


def read_service_account(environ: Mapping[str, str], *, folder: Path = SERVICE_ACCOUNT) -> Material:
    """Return what a pod is given to talk to its own cluster."""
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise ConfigError("not in a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
    token, authority = folder / "token", folder / "ca.crt"
    return Material(
        server=_checked_server(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"),
        server_name=None,
        ca=_read(authority),
        token=_clean_token(_read(token).decode("ascii", "replace")),
        files=(token, authority),
    )


def read_kubeconfig(path: Path, *, context: str | None = None) -> Material:
    """Return what a context (default: the current one) of a kubeconfig says. Raises ConfigError."""
    try:
        document = yaml.safe_load(_read(path))
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ConfigError(f"{path}: not YAML") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: not a kubeconfig")
    context = context or document.get("current-context") or ""
    chosen = _entry(document, "contexts", context, "context")
    cluster = _entry(document, "clusters", str(chosen.get("cluster", "")), "cluster")
    name = str(chosen.get("user") or "")
    user = _entry(document, "users", name, "user") if name else {}
    _refuse(cluster, user)
    return _material(path, cluster=cluster, user=user, context=context)


def _material(path: Path, *, cluster: dict[str, Any], user: dict[str, Any], context: str) -> Material:
    files = [path]
    folder = path.parent

    def blob(entry: dict[str, Any], key: str) -> bytes | None:
        # Data goes before a file, as in client-go.
        if data := entry.get(f"{key}-data"):
            try:
                return base64.b64decode(data, validate=True)
            except (binascii.Error, ValueError, TypeError):
                raise ConfigError(f"{path}: {key}-data is not base64") from None
        if file := entry.get(key):
            files.append(folder / str(file))
            return _read(files[-1])
        return None

    token = user.get("token")
    if file := user.get("tokenFile"):
        files.append(folder / str(file))
        token = _read(files[-1]).decode("ascii", "replace")
    has_plugin = bool(user.get("exec") or user.get("auth-provider"))
    plugin = Plugin(user=user, context=context, folder=folder) if has_plugin else None
    return Material(
        server=_checked_server(str(cluster.get("server") or "")),
        server_name=cluster.get("tls-server-name") or None,
        ca=blob(cluster, "certificate-authority"),
        certificate=blob(user, "client-certificate"),
        key=blob(user, "client-key"),
        token=_clean_token(token) if token else None,
        plugin=plugin,
        files=tuple(files),
    )


def _refuse(cluster: dict[str, Any], user: dict[str, Any]) -> None:
    if cluster.get("insecure-skip-tls-verify"):
        raise ConfigError("insecure-skip-tls-verify is refused: give certificate-authority(-data) instead")
    if cluster.get("proxy-url"):
        raise ConfigError("proxy-url is not supported")
    if any(key in user for key in ("as", "as-uid", "as-groups", "as-user-extra")):
        raise ConfigError("impersonation (as, as-groups ...) in a kubeconfig is not supported")
    if user.get("username") or user.get("password"):
        raise ConfigError("user name and password: API servers do not take them since 1.19")


def _checked_server(server: str) -> str:
    try:
        url = URL(server)
    except ValueError:
        raise ConfigError("the server address is not a URL") from None
    if url.host is None or url.user or url.query or url.fragment:
        raise ConfigError("the server address is not a plain URL")
    if url.scheme == "http" and not _loopback(url.host):
        raise ConfigError("plain http is accepted for the loopback address only")
    if url.scheme not in {"http", "https"}:
        raise ConfigError("the server address must begin with https://")
    return server.rstrip("/")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _entry(document: dict[str, Any], group: str, name: str, kind: str) -> dict[str, Any]:
    for item in document.get(group) or ():
        if isinstance(item, dict) and item.get("name") == name:
            found = item.get(kind)
            return found if isinstance(found, dict) else {}
    raise ConfigError(f"kubeconfig has no {kind} named {name!r}")


def _clean_token(token: str) -> str:
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable():
        raise ConfigError("the token is empty or has characters no HTTP header may have")
    return token


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {os.strerror(error.errno or 0)}") from None
