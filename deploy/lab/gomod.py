"""Write the Go module that builds one Kubernetes version, ready to be committed.

k8s.io/kubernetes replaces its parts by folders beside it, which a module that requires it does not inherit: each has to
be replaced by the part's own release, v0.MINOR.PATCH.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path

from deploy.lab import gobuild, paths
from deploy.lab.console import long_step, run, say
from deploy.lab.errors import LabError

_VERSION = re.compile(r"1\.\d+\.\d+")


def write(version: str) -> Path:
    """Make golang/kubernetes-VERSION with go.mod, go.sum and tools.go; LabError if it is there or does not resolve."""
    if not _VERSION.fullmatch(version):
        raise LabError(f"{version!r} is no version such as 1.34.4")
    folder = paths.GOLANG / f"kubernetes-{version}"
    if folder.exists():
        raise LabError(f"{folder} is there already")
    go = gobuild.toolchain()
    with tempfile.TemporaryDirectory(dir=paths.GOLANG) as name, long_step(f"resolving Kubernetes {version}"):
        made = Path(name) / folder.name
        made.mkdir()
        (made / "go.mod").write_text(_go_mod(version, _upstream(go, version)))
        (made / "tools.go").write_text(_tools_go(gobuild.kubernetes_packages()))
        run([go, "mod", "tidy"], cwd=made, env={**os.environ, "GOFLAGS": "-mod=mod"}, timeout=1800)
        made.rename(folder)
    say(f"made {folder}; commit it")
    return folder


def _upstream(go: Path, version: str) -> str:
    """The go.mod of k8s.io/kubernetes itself."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "go.mod").write_text("module probe\n")
        argv: list[str | Path] = [go, "mod", "download", "-json", f"k8s.io/kubernetes@v{version}"]
        found = json.loads(run(argv, cwd=Path(name), timeout=1800))
    return Path(found["GoMod"]).read_text()


def _go_mod(version: str, upstream: str) -> str:
    parts = re.findall(r"^\s*(k8s\.io/\S+) => \./staging", upstream, re.M)
    language = re.search(r"^go \S+", upstream, re.M)
    debug = re.search(r"^godebug .*$|^godebug \([^)]*\)", upstream, re.M)
    if not parts or not language:
        raise LabError(f"the go.mod of Kubernetes {version} is not as it used to be")
    sections = ["module isthmus.dev/lab/kubernetes", language[0], f"require k8s.io/kubernetes v{version}"]
    if debug:
        sections.insert(2, debug[0])
    replaced = "\n".join(f"\t{part} => {part} v0.{version.partition('.')[2]}" for part in parts)
    return "\n\n".join([*sections, f"replace (\n{replaced}\n)"]) + "\n"


def _tools_go(packages: list[str]) -> str:
    imports = "\n".join(f'\t_ "{package}"' for package in sorted(packages))
    head = "//go:build tools\n\n// Package tools names the programs that the lab builds.\npackage tools\n\n"
    return f"{head}import (\n{imports}\n)\n"
