"""The image of isthmus: Debian's Python, the pinned Python packages and our own, without a container engine.

The fabric's agents run it too, so it has the programs that they call. Two layers. The lower one (Python and packages)
is made once, some 30 s, and cached by what decides its content; the
upper one is our own code as it is in the checkout, made in a moment. There is no shell in it and it runs as nobody.
"""

from __future__ import annotations

import hashlib
import py_compile
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from deploy.lab import imagefile, locks, paths, userland
from deploy.lab.cluster import LabCluster
from deploy.lab.console import long_step, run
from deploy.lab.imagefile import Image, add
from deploy.lab.userland import PYTHON, PYTHON_PACKAGES, temporary_folder

IMAGE = "isthmus.dev/isthmus:latest"
USER = 65532
_FABRIC_PACKAGES = (
    *("nftables", "wireguard-go", "wireguard-tools"),
    *("libbsd0", "libedit2", "libgmp10", "libjansson4", "libmd0", "libmnl0", "libnftables1", "libnftnl11"),
    *("libsqlite3-0", "libtinfo6", "libxtables12"),
)
"""What `isthmus fabric-agent` calls (`nft`, `wg`, `wireguard-go`), and what that and pyroute2 link to."""
_PACKAGES = (*PYTHON_PACKAGES, *_FABRIC_PACKAGES)
_LIBRARIES = "opt/isthmus/lib"
_CODE = "opt/isthmus/app"
_COMMAND = f"#!/usr/bin/python{PYTHON}\nfrom isthmus.cli import main\n\nmain()\n"
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
_USERS = f"root:x:0:0:root:/:/usr/sbin/nologin\nisthmus:x:{USER}:{USER}:isthmus:/:/usr/sbin/nologin\n"


def archive() -> Path:
    """The image of the checkout's code as a docker-archive in the cache."""
    with locks.hold("isthmus-image", waiting="another process builds the image of isthmus, waiting"):
        base = _base()
        with temporary_folder("image") as folder:
            code = folder / "code.tar"
            _write_code(code)
            with code.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            target = paths.cache() / f"isthmus-image-{base.stem[-16:]}-{digest[:16]}.tar"
            if not target.exists():
                userland.forget("isthmus-image-*.tar")
                imagefile.write(target, {IMAGE: _image(base, code)})
    return target


def load(cluster: LabCluster) -> None:
    """Import the image into the cluster's real node."""
    cluster.import_image(archive())


def _image(base: Path, code: Path) -> Image:
    command = {"Entrypoint": [f"/usr/bin/python{PYTHON}", "-m", "isthmus"], "User": f"{USER}:{USER}", "WorkingDir": "/"}
    environment = (f"PYTHONPATH=/{_CODE}:/{_LIBRARIES}", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1")
    return Image([base, code], command, (*environment, f"SSL_CERT_FILE=/{_BUNDLE}"))


# -- Python and what we depend on


def _base() -> Path:
    wanted = userland.requirements()
    key = hashlib.sha256("\n".join((*_PACKAGES, *wanted)).encode())
    for file in (paths.ROOT / "constraints.txt", Path(__file__), Path(userland.__file__), Path("/etc/debian_version")):
        key.update(file.read_bytes())
    target = paths.cache() / f"isthmus-base-{key.hexdigest()[:16]}.tar"
    if not target.exists():
        userland.forget("isthmus-base-*.tar")
        with long_step("building the base of isthmus's image, once, 30 s"), temporary_folder("image") as folder:
            root = folder / "root"
            userland.unpack_debian(_PACKAGES, folder=folder, root=root)
            userland.install_python_packages(root / _LIBRARIES, wanted)
            _finish(root)
            temporary = folder / "base.tar"
            with tarfile.open(temporary, "w") as tar:
                imagefile.add_tree(tar, root)
            shutil.move(temporary, target)
    return target


def _finish(root: Path) -> None:
    """What the packages' scripts would have done."""
    bundle = root / _BUNDLE
    bundle.parent.mkdir(parents=True, exist_ok=True)
    authorities = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    bundle.write_bytes(b"".join(file.read_bytes() for file in authorities))
    (root / "etc/passwd").write_text(_USERS)
    (root / "etc/group").write_text(f"root:x:0:\nisthmus:x:{USER}:\n")
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    userland.compile_python(root, [f"/usr/lib/python{PYTHON}", f"/{_LIBRARIES}"])
    # Run once, as the image will: a library that is missing shows here, not in a pod.
    imports = f"import sys; sys.path.append('/{_LIBRARIES}'); import grpc, pyroute2"
    python = [f"/usr/bin/python{PYTHON}", "-c", imports]
    for program in (["nft", "--version"], ["wg", "--version"], ["wireguard-go", "--version"], python):
        run(["chroot", root, *program])


# -- our own code


def _write_code(target: Path) -> None:
    setup = userland.project()
    with tarfile.open(target, "w") as tar:
        for pattern in setup["options.packages.find"]["include"].split():
            folder = paths.ROOT / pattern.removesuffix("*")
            for file in sorted(folder.rglob("*.py")):
                name = f"{_CODE}/{file.relative_to(paths.ROOT)}"
                add(tar, name, file.read_bytes())
                _add_compiled(tar, file, name)
        # For `kubectl exec POD -- isthmus ...`.
        add(tar, "usr/local/bin/isthmus", _COMMAND.encode(), mode=0o755)
        name, metadata = userland.package_metadata()
        add(tar, f"{_CODE}/{name}", metadata)


def _add_compiled(tar: tarfile.TarFile, source: Path, name: str) -> None:
    """Bytecode beside the source, where this Python is the image's: the root is read-only, so it is never written."""
    if f"{sys.version_info.major}.{sys.version_info.minor}" != PYTHON:
        return
    with tempfile.NamedTemporaryFile(suffix=".pyc") as file:
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(source), cfile=file.name, dfile=f"/{name}", doraise=True, invalidation_mode=mode)
        folder, _, module = name.rpartition("/")
        compiled = f"{folder}/__pycache__/{module.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"
        add(tar, compiled, Path(file.name).read_bytes())
