"""The image of isthmus: Debian's Python, the pinned Python packages and our own, without a container engine.

Two layers. The lower one (Python and packages) is made once, some 30 s, and cached by what decides its content; the
upper one is our own code as it is in the checkout, made in a moment. There is no shell in it and it runs as nobody.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import py_compile
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.lab import imagefile, locks, paths
from deploy.lab.cluster import LabCluster
from deploy.lab.console import long_step, run
from deploy.lab.imagefile import Image, add

IMAGE = "isthmus.dev/isthmus:latest"
PYTHON = "3.11"
USER = 65532
_PACKAGES = (
    *("ca-certificates", "libbz2-1.0", "libc6", "libcrypt1", "libexpat1", "libffi8", "libgcc-s1", "liblzma5"),
    *("libssl3", "libuuid1", "zlib1g"),
    *(f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib"),
)
"""Debian packages, unpacked and not installed: none of them needs its scripts here."""
_NEEDLESS = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/pixmaps")
_LIBRARIES = "opt/isthmus/lib"
_CODE = "opt/isthmus/app"
_KEPT_SECONDS = 3600.0
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
_USERS = f"root:x:0:0:root:/:/usr/sbin/nologin\nisthmus:x:{USER}:{USER}:isthmus:/:/usr/sbin/nologin\n"


def archive() -> Path:
    """The image of the checkout's code as a docker-archive in the cache."""
    with locks.hold("isthmus-image", waiting="another process builds the image of isthmus, waiting"):
        base = _base()
        with _temporary_folder() as folder:
            code = folder / "code.tar"
            _write_code(code)
            with code.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            target = paths.cache() / f"isthmus-image-{base.stem[-16:]}-{digest[:16]}.tar"
            if not target.exists():
                _forget("isthmus-image-*.tar")
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
    key = hashlib.sha256("\n".join((*_PACKAGES, *_requirements())).encode())
    for file in (paths.ROOT / "constraints.txt", Path(__file__), Path("/etc/debian_version")):
        key.update(file.read_bytes())
    target = paths.cache() / f"isthmus-base-{key.hexdigest()[:16]}.tar"
    if not target.exists():
        _forget("isthmus-base-*.tar")
        with long_step("building the base of isthmus's image, once, 30 s"), _temporary_folder() as folder:
            root = folder / "root"
            _unpack_debian(folder, root)
            _install_python_packages(root / _LIBRARIES)
            _finish(root)
            temporary = folder / "base.tar"
            with tarfile.open(temporary, "w") as tar:
                imagefile.add_tree(tar, root)
            shutil.move(temporary, target)
    return target


def _unpack_debian(folder: Path, root: Path) -> None:
    downloads = folder / "debs"
    downloads.mkdir()
    root.mkdir()
    if not any(Path("/var/lib/apt/lists").glob("*_Packages*")):
        run(["apt-get", "-qq", "update"], timeout=300)
    run(["apt-get", "-qq", "download", *_PACKAGES], cwd=downloads, timeout=300)
    for file in sorted(downloads.glob("*.deb")):
        run(["dpkg-deb", "-x", file, root], timeout=60)


def _install_python_packages(target: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    foreign = ["--only-binary=:all:", f"--python-version={PYTHON}", "--implementation=cp", f"--target={target}"]
    constraints = paths.ROOT / "constraints.txt"
    run([*pip, *foreign, f"--constraint={constraints}", "--root-user-action=ignore", *_requirements()], timeout=600)


def _finish(root: Path) -> None:
    """What the packages' scripts would have done, less what nobody needs, and all of Python compiled."""
    for needless in _NEEDLESS:
        shutil.rmtree(root / needless, ignore_errors=True)
    bundle = root / _BUNDLE
    bundle.parent.mkdir(parents=True, exist_ok=True)
    authorities = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    bundle.write_bytes(b"".join(file.read_bytes() for file in authorities))
    (root / "etc/passwd").write_text(_USERS)
    (root / "etc/group").write_text(f"root:x:0:\nisthmus:x:{USER}:\n")
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    compiled = [f"/usr/lib/python{PYTHON}", f"/{_LIBRARIES}"]
    # By the image's own Python: it proves that it runs.
    python = [f"/usr/bin/python{PYTHON}", "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash"]
    run(["chroot", root, *python, *compiled], timeout=300)


def _requirements() -> list[str]:
    return _setup()["options"]["install_requires"].split()


def _setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(paths.ROOT / "setup.cfg")
    return parser


# -- our own code


def _write_code(target: Path) -> None:
    setup = _setup()
    version = setup["metadata"]["version"]
    with tarfile.open(target, "w") as tar:
        for pattern in setup["options.packages.find"]["include"].split():
            folder = paths.ROOT / pattern.removesuffix("*")
            for file in sorted(folder.rglob("*.py")):
                name = f"{_CODE}/{file.relative_to(paths.ROOT)}"
                add(tar, name, file.read_bytes())
                _add_compiled(tar, file, name)
        metadata = f"Metadata-Version: 2.1\nName: isthmus\nVersion: {version}\n"
        add(tar, f"{_CODE}/isthmus-{version}.dist-info/METADATA", metadata.encode())


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


def _forget(pattern: str) -> None:
    """Remove what nobody has used for an hour; a younger one may be on its way into another checkout's lab."""
    for old in paths.cache().glob(pattern):
        if time.time() - old.stat().st_mtime > _KEPT_SECONDS:
            old.unlink()


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """In the cache, whose file system has room."""
    paths.cache().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".image-{os.getpid()}-", dir=paths.cache()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
