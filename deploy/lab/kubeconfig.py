"""Kubeconfig files: self-contained, readable by their owner only."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from deploy.lab import pki


def write(
    path: Path, *, cluster: str, server: str, ca: bytes, user: str, pair: pki.Pair, tls_server_name: str = ""
) -> Path:
    """Write a kubeconfig with the certificates inside it and return its path."""
    target = {"server": server, "certificate-authority-data": _text(ca)}
    if tls_server_name:
        target["tls-server-name"] = tls_server_name
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": target}],
        "users": [
            {
                "name": user,
                "user": {"client-certificate-data": _text(pair.certificate), "client-key-data": _text(pair.key)},
            }
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
        "current-context": cluster,
    }
    pki.write_private(path, yaml.safe_dump(document, sort_keys=False).encode())
    return path


def _text(pem: bytes) -> str:
    return base64.b64encode(pem).decode()
