"""The folder in which a serving pair and the key of a pending request outlive a restart.

Key and chain stand in one file that is replaced by renaming, so that no reader ever sees a key with another one's
certificate; only the owner may read it. All calls block for as long as a disk takes: call them in a thread.
"""

import os
import tempfile
from datetime import datetime
from pathlib import Path

from vk.node.csr import CertificateError, Key, Pair, accept, split

_PAIR = "kubelet-serving.pem"
_PENDING = "kubelet-serving-pending.pem"


class KeyStore:
    """Serving pair and pending key under `folder`, which is made (0700) if absent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def path(self) -> Path:
        """The file with key and chain, for `ssl.SSLContext.load_cert_chain`."""
        return self._folder / _PAIR

    def load(self, *, now: datetime) -> Pair | None:
        """The stored pair; None if there is none, CertificateError if it is spoilt or has expired."""
        text = self._read(_PAIR)
        if text is None:
            return None
        key, chain = split(text)
        return accept(chain, key=Key.load(key), now=now)

    def save(self, pair: Pair) -> None:
        """Put a new pair in the old one's place and forget the pending key."""
        self._write(_PAIR, pair.pem())
        (self._folder / _PENDING).unlink(missing_ok=True)

    def pending(self) -> Key:
        """The key of the request under way, or a new one, kept for the next start."""
        text = self._read(_PENDING)
        if text is not None:
            try:
                return Key.load(text)
            except CertificateError:
                pass  # written by a process that died on it; begin again
        key = Key.generate()
        self._write(_PENDING, key.pem())
        return key

    def discard(self) -> None:
        """The request under way has failed: the next one gets a new key, and so a new name."""
        (self._folder / _PENDING).unlink(missing_ok=True)

    def _read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def _write(self, name: str, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=f".{name}.")  # made with mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self._folder / name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
