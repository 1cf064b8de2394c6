"""The lab's container images, written as a docker-archive: there is no registry to pull from.

One layer serves all: agnhost (the Kubernetes project's test program), busybox for a shell, and a pause program.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path

from deploy.lab import gobuild, imagefile, locks, paths
from deploy.lab.console import run
from deploy.lab.imagefile import Image, add
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
    layer = target.with_name(f".{target.name}.layer.{os.getpid()}")
    try:
        _write_layer(layer, agnhost=agnhost, pause=pause)
        images = {
            AGNHOST_IMAGE: Image([layer], {"Entrypoint": ["/agnhost"], "Cmd": ["pause"]}),
            PAUSE_IMAGE: Image([layer], {"Entrypoint": ["/pause"]}),
        }
        imagefile.write(target, images)
    finally:
        layer.unlink(missing_ok=True)


def _write_layer(target: Path, *, agnhost: Path, pause: Path) -> None:
    with tarfile.open(target, "w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("uploads", 0o755)):
            add(tar, folder, None, mode=mode)
        for source, name in ((agnhost, "agnhost"), (pause, "pause"), (BUSYBOX, "bin/busybox")):
            add(tar, name, source.read_bytes(), mode=0o755)
        for applet in run([BUSYBOX, "--list"]).split():
            if applet == "busybox":
                continue
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        add(tar, "etc/passwd", _USERS.encode())
        add(tar, "etc/group", _GROUPS.encode())
