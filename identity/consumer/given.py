"""A kubeconfig that somebody else made and renews (OIDC, exec plugin, cloud): is it one that can be used?"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from api.authentication.identity import Identity
from identity.consumer.keyring import Keyring
from kube import kubeconfig
from kube.errors import ConfigError


async def look(identity: Identity, keyring: Keyring) -> str:
    """What is wrong with it; empty if nothing. Plugins are not run here: the virtual kubelet does."""
    entry = identity.spec.secret
    if entry is None:
        return "spec.secret: is needed by the method Kubeconfig"
    text = await keyring.given(entry.name, entry.key)
    if text is None:
        return f"Secret {entry.name} with the entry {entry.key} is not there"
    try:
        await asyncio.to_thread(_read, text)
    except ConfigError as error:
        return f"Secret {entry.name}: {error}"
    return ""


def _read(text: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="isthmus-") as folder:
        file = Path(folder) / "kubeconfig"
        file.touch(mode=0o600)
        file.write_bytes(text)
        try:
            found = kubeconfig.read_kubeconfig(file)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(file), "kubeconfig")) from None
        if found.ca is None:
            raise ConfigError("kubeconfig: it must name the provider's certificate authority")
