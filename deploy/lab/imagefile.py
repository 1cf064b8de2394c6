"""Container images as files (docker-archive), made without a container engine and imported into containerd.

Form: https://github.com/moby/docker-image-spec, as `docker save` writes it: layers as tar files, a configuration per
image, and manifest.json.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Image:
    """One image of an archive: its layers from the lowest up, and what runs."""

    layers: Sequence[Path]
    command: Mapping[str, Any]
    """Entrypoint, Cmd, User, WorkingDir as in the image configuration."""
    environment: Sequence[str] = field(default_factory=tuple)


def write(target: Path, images: Mapping[str, Image]) -> None:
    """Write an archive of images by reference; it appears at once or not at all."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    digests = {layer: _digest(layer) for image in images.values() for layer in image.layers}
    manifest: list[dict[str, Any]] = []
    with tarfile.open(temporary, "w") as tar:
        for layer, digest in digests.items():
            tar.add(layer, arcname=f"{digest}.tar")
        for name, image in images.items():
            config = _config(image, [digests[layer] for layer in image.layers])
            file = f"{hashlib.sha256(config).hexdigest()}.json"
            add(tar, file, config)
            files = [f"{digests[layer]}.tar" for layer in image.layers]
            manifest.append({"Config": file, "RepoTags": [name], "Layers": files})
        add(tar, "manifest.json", json.dumps(manifest).encode())
    temporary.rename(target)


def add(tar: tarfile.TarFile, name: str, content: bytes | None, *, mode: int = 0o644) -> None:
    """Add a file to a layer, or a folder if there is no content. Owner root, no time: equal input, equal layer."""
    entry = tarfile.TarInfo(name)
    entry.mode = mode
    if content is None:
        entry.type = tarfile.DIRTYPE
        tar.addfile(entry)
    else:
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))


def add_tree(tar: tarfile.TarFile, folder: Path, *, prefix: str = "") -> None:
    """Add all of a folder to a layer, sorted, owned by root, without times."""
    for file in sorted(folder.rglob("*")):
        tar.add(file, arcname=prefix + str(file.relative_to(folder)), recursive=False, filter=_anonymous)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def _config(image: Image, digests: Sequence[str]) -> bytes:
    machine = os.uname().machine
    return json.dumps(
        {
            "architecture": _MACHINES.get(machine, machine),
            "os": "linux",
            "config": {"Env": [_PATH, *image.environment], **image.command},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        }
    ).encode()


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
