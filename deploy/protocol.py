"""Generates netfabric/_pb from proto/: `python -m deploy.protocol`. A test compares what is committed with this."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).parent.parent
PACKAGE = Path("netfabric/_pb")
_SOURCE = "proto/isthmus/fabric/v1"
_PROTO = "fabric.proto"
_PLUGINS = ("mypy", "mypy_grpc")


def generate(target: Path) -> list[Path]:
    """Write the generated modules and their stubs below `target`; gives their paths relative to it."""
    includes = Path(grpc_tools.__file__).parent / "_proto"
    arguments = [
        "protoc",
        *(f"--plugin=protoc-gen-{name}={Path(sys.executable).parent / f'protoc-gen-{name}'}" for name in _PLUGINS),
        # The folder stands for the package, so that generated modules import one another by their real names.
        f"--proto_path={PACKAGE}={ROOT / _SOURCE}",
        f"--proto_path={includes}",
        f"--python_out={target}",
        f"--mypy_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_grpc_out={target}",
        str(PACKAGE / _PROTO),
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed, see above")
    return sorted(path.relative_to(target) for path in (target / PACKAGE).iterdir())


def main() -> None:
    """Replace the committed code; what is no longer generated goes."""
    with tempfile.TemporaryDirectory() as folder:
        made = generate(Path(folder))
        for old in (ROOT / PACKAGE).glob("*_pb2*"):
            old.unlink()
        for path in made:
            (ROOT / path).write_text((Path(folder) / path).read_text())


if __name__ == "__main__":
    main()
