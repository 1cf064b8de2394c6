"""TLS contexts for talking to API servers.

There is no way to switch verification off, or to go below TLS 1.2, from here (abuse test A39). With
a CA given only that CA counts; the system's CAs never stand in for it.
"""

import os
import ssl

from kube.errors import ConfigError


def client_context(*, ca: bytes | None, certificate: bytes | None, key: bytes | None) -> ssl.SSLContext:
    """Build a context from PEM data. Blocks for some milliseconds: call it in a thread.

    ``ca`` None means the system's CAs, as a kubeconfig without a CA does. Raises ConfigError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Only what we speak: an HTTP/2 answer to an upgrade request could not be spliced.
    context.set_alpn_protocols(["http/1.1"])
    try:
        if ca is None:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        else:
            context.load_verify_locations(cadata=ca.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"certificate authority is not usable: {_reason(error)}") from None
    if certificate is None:
        return context
    if key is None:
        raise ConfigError("a client certificate needs a key")
    _load_chain(context, certificate=certificate, key=key)
    return context


def _load_chain(context: ssl.SSLContext, *, certificate: bytes, key: bytes) -> None:
    # OpenSSL's Python binding reads keys from files only; a memory file keeps them off the disk.
    handle = os.memfd_create("client-certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(handle, "wb", closefd=False) as file:
            file.write(certificate.rstrip() + b"\n" + key)
        context.load_cert_chain(f"/proc/self/fd/{handle}", password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigError(f"client certificate is not usable: {_reason(error)}") from None
    finally:
        os.close(handle)


def _no_password() -> str:
    # Without this OpenSSL would ask on the terminal.
    raise ConfigError("client key is encrypted")


def _reason(error: Exception) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) else None) or type(error).__name__
