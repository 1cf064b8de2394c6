"""The agent's certificate, its key and whom it trusts, read anew whenever their files change.

They are looked at when somebody connects: whoever replaces them (a Secret's mount, in one step) need not restart the
agent, and connections that are open stay. Files that do not belong together, as while they are being written, are left
for the next caller: until then those before them go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

log = structlog.get_logger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Certificates of a server, PEM, and whom it serves."""

    certificate: Path
    key: Path
    client_ca: Path
    client_names: tuple[str, ...]
    """Common names or DNS names of certificates, one of which a caller's must have."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files."""
        return self.certificate, self.key, self.client_ca


class Credentials:
    """Credentials of a server that follow their files."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp: _Stamp = ()

    def server(self) -> grpc.ServerCredentials:
        """For `add_secure_port`; callers must have a certificate. Raises OSError, ValueError: unusable files."""
        stamp = self._look()
        first = _read(self._files)
        self._stamp = stamp
        return grpc.dynamic_ssl_server_credentials(
            first,
            self._newer,  # type: ignore[arg-type] # gRPC's documentation: None if there is nothing new
            require_client_authentication=True,
        )

    def _newer(self) -> grpc.ServerCertificateConfiguration | None:
        """What gRPC asks, in a thread of its own, before it greets a caller; None: nothing new."""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return None
            found = _read(self._files)
        except (OSError, ValueError) as error:
            log.warning("certificate not reloaded, the one before it is used", error=str(error))
            return None
        self._stamp = stamp
        log.info("certificate reloaded", file=str(self._files.certificate))
        return found

    def _look(self) -> _Stamp:
        found = [path.stat() for path in self._files.paths]
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)


def _read(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    certificate, key, client_ca = (path.read_bytes() for path in files.paths)
    try:
        matches = _public(x509.load_pem_x509_certificate(certificate).public_key()) == _public(
            serialization.load_pem_private_key(key, password=None).public_key()
        )
        trusted = x509.load_pem_x509_certificates(client_ca)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Its own words might be of the key.
        raise ValueError(f"{files.certificate}, {files.key} or {files.client_ca} is not readable as PEM") from None
    if not matches or not trusted:
        raise ValueError(f"{files.certificate} and {files.key} do not belong together")
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=client_ca)


def _public(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined,no-any-return] # every kind of public key has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
