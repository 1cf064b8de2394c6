"""An image for example applications: Python and redis from Debian packages, made without a container engine.

The programs of an application come into it as ConfigMaps; there is no shell, and it runs as nobody in particular.
"""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

from deploy.lab import imagefile, locks, paths, userland
from deploy.lab.cluster import LabCluster
from deploy.lab.console import long_step, run
from deploy.lab.imagefile import Image

IMAGE = "isthmus.dev/lab/shop:latest"
_PACKAGES = (
    *userland.PYTHON_PACKAGES,
    *("redis-tools", "redis-server", "libatomic1", "libcap2", "libgcrypt20", "libgpg-error0", "libjemalloc2"),
    *("liblz4-1", "liblzf1", "libstdc++6", "libsystemd0", "libzstd1"),
)


def archive() -> Path:
    """The image as a docker-archive in the cache."""
    key = hashlib.sha256("\n".join(_PACKAGES).encode())
    for file in (Path(__file__), Path("/etc/debian_version")):
        key.update(file.read_bytes())
    target = paths.cache() / f"shop-image-{key.hexdigest()[:16]}.tar"
    with locks.hold("shop-image", waiting="another process builds the image for applications, waiting"):
        if not target.exists():
            userland.forget("shop-image-*.tar")
            with long_step("building the image for applications, once, 20 s"):
                _write(target)
    return target


def load(cluster: LabCluster) -> None:
    """Import the image into the cluster's real node."""
    cluster.import_image(archive())


def _write(target: Path) -> None:
    with userland.temporary_folder("shop-image") as folder:
        root, layer = folder / "root", folder / "layer.tar"
        userland.unpack_debian(_PACKAGES, folder=folder, root=root)
        (root / "tmp").mkdir(exist_ok=True)
        (root / "tmp").chmod(0o1777)
        userland.compile_python(root, [f"/usr/lib/python{userland.PYTHON}"])
        # By the image's own program: it proves that it runs.
        run(["chroot", root, "/usr/bin/redis-server", "--version"])
        with tarfile.open(layer, "w") as tar:
            imagefile.add_tree(tar, root)
        program = {"Entrypoint": [f"/usr/bin/python{userland.PYTHON}"]}
        imagefile.write(target, {IMAGE: Image([layer], program, ("PYTHONUNBUFFERED=1",))})
