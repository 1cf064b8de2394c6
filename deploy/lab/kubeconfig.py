"""Kubeconfig files: self-contained, readable by their owner only."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path

import yaml

from deploy.lab import pki


def write(path: Path, *, cluster: str, server: str, ca: bytes, user: str, pair: pki.Pair) -> Path:
    """Write a kubeconfig with the certificates inside it and return its path."""
    target = {"server": server, "certificate-authority-data": _text(ca)}
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


def tls(path: Path) -> ssl.SSLContext:
    """The TLS side of a kubeconfig that `write` made, for a client that is not a Kubernetes one."""
    document = yaml.safe_load(path.read_text())
    target, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
    context = ssl.create_default_context(cadata=base64.b64decode(target["certificate-authority-data"]).decode())
    pem = [base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")]
    both = path.with_name(f".{path.name}.pem")
    pki.write_private(both, b"".join(pem))
    context.load_cert_chain(both)
    both.unlink()
    return context


def _text(pem: bytes) -> str:
    return base64.b64encode(pem).decode()
