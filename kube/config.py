"""Where an API server is and who we are there, kept up to date.

Credentials come from a kubeconfig or, in a pod, from its service account. Files (the kubeconfig
itself, tokens, keys, CAs) are looked at again every few seconds and read when they changed; a file
that cannot be used, as in the middle of a rotation, leaves the old credentials in place.

kubernetes_asyncio runs exec plugins and auth providers. Importing any part of it loads its whole
client (measured: 0.4 s and 39 MB), which plain kubeconfigs and service accounts would pay for
nothing, so it is imported here only, in a thread, and only once a plugin is asked for.
"""

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import structlog

from kube import kubeconfig, tls
from kube.errors import ConfigError
from kube.kubeconfig import Material, Plugin

_log = structlog.get_logger(__name__)

_CHECK_INTERVAL = 10.0
# After a 401 files are read and plugins run anew, but not more often than this.
_RENEW_INTERVAL = 5.0
_PLUGIN_TIMEOUT = 60.0
_EXPIRY_MARGIN = 60.0


@dataclass(frozen=True, slots=True, eq=False)
class Access:
    """What one request needs. A new object means new credentials."""

    server: str
    server_name: str | None
    ssl: ssl.SSLContext | None
    token: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Granted:
    """What a plugin answered. ``expires`` is by the wall clock, in seconds."""

    token: str | None = field(default=None, repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    expires: float | None = None


class Credentials:
    """Gives out the current :class:`Access`; see the module docstring for how it stays current."""

    def __init__(
        self,
        read: Callable[[], Material],
        *,
        check_interval: float = _CHECK_INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._check_interval = check_interval
        self._clock = clock
        self._lock = asyncio.Lock()
        self._access: Access | None = None
        self._material: Material | None = None
        self._granted = _Granted()
        self._loader: Any = None
        self._fingerprint: tuple[object, ...] = ()
        self._check_at = float("-inf")
        self._renewed_at = float("-inf")

    async def access(self) -> Access:
        """Return the current access. Raises ConfigError only while there has never been a usable one."""
        if self._access is not None and self._clock() < self._check_at:
            return self._access
        async with self._lock:
            if self._access is None or self._clock() >= self._check_at:
                await self._check(force=False)
        assert self._access is not None
        return self._access

    @property
    def authority(self) -> bytes | None:
        """The CA of the server as last read, PEM; None for the system's."""
        return self._material.ca if self._material is not None else None

    async def renew(self, refused: Access) -> Access:
        """Read everything anew because the server answered 401 to ``refused``.

        Any number of requests may call this at once: the first does the work.
        """
        async with self._lock:
            if self._access is refused and self._clock() - self._renewed_at >= _RENEW_INTERVAL:
                self._renewed_at = self._clock()
                await self._check(force=True)
        assert self._access is not None
        return self._access

    async def _check(self, *, force: bool) -> None:
        self._check_at = self._clock() + self._check_interval
        try:
            await self._update(force=force)
        except ConfigError as error:
            if self._access is None:
                self._check_at = float("-inf")
                raise
            _log.warning("credentials_not_renewed", error=str(error))

    async def _update(self, *, force: bool) -> None:
        fingerprint = await asyncio.to_thread(_fingerprint, self._material)
        stale = force or self._material is None or fingerprint != self._fingerprint
        material = await asyncio.to_thread(self._read) if stale or self._material is None else self._material
        granted = self._granted
        if material.plugin is not None and (stale or _expiring(granted)):
            granted = await self._ask_plugin(material.plugin)
        if self._material is None or (material, granted) != (self._material, self._granted):
            self._access = await asyncio.to_thread(_build, material, granted, self._access, self._material)
        self._material, self._granted = material, granted
        self._fingerprint = fingerprint if fingerprint else await asyncio.to_thread(_fingerprint, material)

    async def _ask_plugin(self, plugin: Plugin) -> _Granted:
        try:
            async with asyncio.timeout(_PLUGIN_TIMEOUT):
                if plugin.user.get("exec"):
                    return await _run_exec(plugin)
                return await self._run_auth_provider(plugin)
        except TimeoutError:
            raise ConfigError("the credential plugin did not answer in time") from None

    async def _run_auth_provider(self, plugin: Plugin) -> _Granted:
        # The loader keeps refreshed tokens in memory, so it lives as long as we do.
        kube_config, client = await asyncio.to_thread(_import_loader)
        if self._loader is None:
            self._loader = kube_config.KubeConfigLoader(
                config_dict=_without_files(plugin),
                active_context=plugin.context,
                config_base_path=str(plugin.folder),
            )
        configuration = client.Configuration()
        try:
            await self._loader.load_and_set(configuration)
        except (kube_config.ConfigException, aiohttp.ClientError, ValueError, LookupError, OSError) as error:
            raise ConfigError(f"auth-provider failed: {type(error).__name__}") from None
        bearer = str(configuration.api_key.get("BearerToken", ""))
        return _Granted(token=bearer.removeprefix("Bearer ") or None, expires=time.time() + 2 * _EXPIRY_MARGIN)


async def load(*, kubeconfig: str | None = None, context: str | None = None) -> Credentials:
    """Return working credentials, or raise ConfigError.

    Without ``kubeconfig``: the service account if we run in a pod, else the file of $KUBECONFIG, else
    ~/.kube/config. A list of files in $KUBECONFIG is refused: which of them is meant is for the user to say.
    """
    credentials = Credentials(_reader(kubeconfig, context, os.environ))
    await credentials.access()
    return credentials


def _reader(path: str | None, context: str | None, environ: "os._Environ[str]") -> Callable[[], Material]:
    if path is None and environ.get("KUBERNETES_SERVICE_HOST"):
        return lambda: kubeconfig.read_service_account(environ)
    if path is None:
        path = _only_file(environ.get("KUBECONFIG", "")) or "~/.kube/config"
    file = Path(os.path.expanduser(path))
    return lambda: kubeconfig.read_kubeconfig(file, context=context)


def _only_file(variable: str) -> str:
    files = [part for part in variable.split(os.pathsep) if part]
    if len(files) > 1:
        raise ConfigError(
            f"$KUBECONFIG names {len(files)} files: name one, or merge them (kubectl config view --flatten)"
        )
    return files[0] if files else ""


def _fingerprint(material: Material | None) -> tuple[object, ...]:
    """Something that changes when one of the files does. Kubernetes swaps symbolic links, so stat follows them."""
    if material is None:
        return ()
    marks: list[object] = []
    for path in material.files:
        try:
            found = path.stat()
            marks.append((found.st_mtime_ns, found.st_ino, found.st_size))
        except OSError:
            marks.append(None)
    return tuple(marks)


def _build(material: Material, granted: _Granted, old: Access | None, before: Material | None) -> Access:
    certificate, key = (
        (granted.certificate, granted.key) if granted.certificate else (material.certificate, material.key)
    )
    same_keys = (
        old is not None
        and before is not None
        and granted.certificate is None
        and (before.ca, before.certificate, before.key) == (material.ca, material.certificate, material.key)
    )
    context: ssl.SSLContext | None = None
    if same_keys and old is not None:
        # A token alone changed: keep the open connections.
        context = old.ssl
    elif material.server.startswith("https://"):
        context = tls.client_context(ca=material.ca, certificate=certificate, key=key)
    return Access(
        server=material.server,
        server_name=material.server_name,
        ssl=context,
        token=granted.token or material.token,
    )


def _expiring(granted: _Granted) -> bool:
    if granted.token is None and granted.certificate is None:
        return True
    return granted.expires is not None and granted.expires - _EXPIRY_MARGIN <= time.time()


async def _run_exec(plugin: Plugin) -> _Granted:
    kube_config, _ = await asyncio.to_thread(_import_loader)
    settings = dict(plugin.user["exec"])
    command = str(settings.get("command", ""))
    if os.sep in command and not os.path.isabs(command):
        # As client-go: with a separator the path is relative to the kubeconfig.
        settings["command"] = str(plugin.folder / command)
    try:
        provider = kube_config.ExecProvider(kube_config.ConfigNode("exec", settings))
        status = await provider.run()
    except (kube_config.ConfigException, OSError) as error:
        # The plugin's own words may hold secrets: they are not passed on.
        first = str(error).partition(".")[0] if isinstance(error, kube_config.ConfigException) else type(error).__name__
        raise ConfigError(f"credential plugin failed: {first[:120]}") from None
    return _granted(status)


def _without_files(plugin: Plugin) -> dict[str, Any]:
    """The kubeconfig reduced to what an auth provider needs: the loader would write keys and CAs to temporary files."""
    server = {"server": "https://unused.invalid"}
    return {
        "current-context": plugin.context,
        "contexts": [{"name": plugin.context, "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": server}],
        "users": [{"name": "u", "user": {"auth-provider": plugin.user["auth-provider"]}}],
    }


def _granted(status: Any) -> _Granted:
    if not isinstance(status, dict):
        raise ConfigError("the credential plugin's answer has no status")
    certificate, key, token = (
        status.get("clientCertificateData"),
        status.get("clientKeyData"),
        status.get("token"),
    )
    if not token and not (certificate and key):
        raise ConfigError("the credential plugin gave neither a token nor a certificate with its key")
    expires: float | None = None
    if stamp := status.get("expirationTimestamp"):
        try:
            parsed = datetime.fromisoformat(str(stamp))
        except ValueError:
            raise ConfigError("the credential plugin's expirationTimestamp is not a time") from None
        expires = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    return _Granted(
        token=str(token).strip() if token else None,
        certificate=str(certificate).encode() if certificate and key else None,
        key=str(key).encode() if certificate and key else None,
        expires=expires,
    )


def _import_loader() -> tuple[Any, Any]:
    from kubernetes_asyncio import client  # noqa: PLC0415 - slow and large, see the module docstring
    from kubernetes_asyncio.config import kube_config  # noqa: PLC0415

    return kube_config, client
