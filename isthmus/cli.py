"""The command line: `isthmus <command>`."""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys
from collections.abc import Sequence

from isthmus import logs, options

USAGE = """usage: isthmus COMMAND [options]

commands:
  virtual-kubelet   run one virtual node
  version           print the version

`isthmus COMMAND --help` lists a command's options."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exits with 2 for wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = given[0] if given else ""
    if command == "virtual-kubelet":
        sys.exit(_virtual_kubelet(given[1:]))
    if command in ("version", "--version"):
        sys.stdout.write(importlib.metadata.version("isthmus") + "\n")
        return
    stream = sys.stdout if command in ("help", "--help", "-h") else sys.stderr
    stream.write(USAGE + "\n")
    sys.exit(0 if stream is sys.stdout else 2)


def _virtual_kubelet(arguments: Sequence[str]) -> int:
    from isthmus import virtual_kubelet  # noqa: PLC0415 - `isthmus version` need not load everything

    try:
        chosen = options.parse(arguments)
        logs.configure(level=chosen.log_level, form=chosen.log_format)
        asyncio.run(virtual_kubelet.run(chosen))
    except ValueError as error:
        sys.stderr.write(f"isthmus virtual-kubelet: {error}\n")
        return 2
    return 0
