"""The lab's container images, written as a docker-archive: there is no registry to pull from.

One layer serves all: agnhost (the Kubernetes project's test program), busybox for a shell, and a pause program.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

from deploy.lab import gobuild, locks, paths
from deploy.lab.console import run
from deploy.lab.packages import BUSYBOX

AGNHOST_IMAGE = "isthmus.dev/lab/agnhost:latest"
PAUSE_IMAGE = "isthmus.dev/lab/pause:latest"
_USERS = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"
_GROUPS = "root:x:0:\nuser:x:1000:\nnobody:x:65534:\n"


def archive(version: str) -> Path:
    """The archive of all images with the agnhost of a Kubernetes version, written once into the cache."""
    agnhost = gobuild.kubernetes(version).target / "agnhost"
    pause = gobuild.ensure(gobuild.PAUSE) / "pause"
    key = hashlib.sha256()
    for file in (agnhost, pause, BUSYBOX, Path(__file__)):
        status = file.stat()
        key.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
    target = paths.cache() / f"images-{version}-{key.hexdigest()[:16]}.tar"
    with locks.hold("images"):
        if not target.exists():
            _write(target, agnhost=agnhost, pause=pause)
    return target


def _write(target: Path, *, agnhost: Path, pause: Path) -> None:
    for old in target.parent.glob(f"{target.name.rsplit('-', 1)[0]}-*.tar"):
        old.unlink()
    layer = _layer(agnhost=agnhost, pause=pause)
    digest = hashlib.sha256(layer).hexdigest()
    images = {
        AGNHOST_IMAGE: {"Entrypoint": ["/agnhost"], "Cmd": ["pause"]},
        PAUSE_IMAGE: {"Entrypoint": ["/pause"]},
    }
    manifest: list[dict[str, Any]] = []
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with tarfile.open(temporary, "w") as tar:
        _add(tar, f"{digest}.tar", layer)
        for name, command in images.items():
            config = _config(command, digest)
            file = f"{hashlib.sha256(config).hexdigest()}.json"
            _add(tar, file, config)
            manifest.append({"Config": file, "RepoTags": [name], "Layers": [f"{digest}.tar"]})
        _add(tar, "manifest.json", json.dumps(manifest).encode())
    temporary.rename(target)


def _config(command: dict[str, Any], layer: str) -> bytes:
    environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    return json.dumps(
        {
            "architecture": machine,
            "os": "linux",
            "config": {"Env": environment, **command},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
        }
    ).encode()


def _layer(*, agnhost: Path, pause: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("uploads", 0o755)):
            _add(tar, folder, None, mode=mode)
        for source, name in ((agnhost, "agnhost"), (pause, "pause"), (BUSYBOX, "bin/busybox")):
            _add(tar, name, source.read_bytes(), mode=0o755)
        for applet in run([BUSYBOX, "--list"]).split():
            if applet == "busybox":
                continue
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        _add(tar, "etc/passwd", _USERS.encode())
        _add(tar, "etc/group", _GROUPS.encode())
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes | None, *, mode: int = 0o644) -> None:
    """Add a file, or a folder if there is no content."""
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    if content is None:
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
    else:
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
