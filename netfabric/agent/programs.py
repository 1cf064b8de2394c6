"""Runs the small programs that the agent depends on (`nft`, `wg`, `wireguard-go`): bounded, secrets by stdin only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Sequence

from netfabric.agent.errors import KernelError

SECONDS = 20.0
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_TEXT = 600


def find(program: str) -> str | None:
    """Path of a program; /usr/sbin is not on every PATH."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_SBIN}")


async def run(argv: Sequence[str], *, stdin: str = "", reason: str) -> str:
    """Output of a program that must end well. Raises `KernelError` with `reason` and what it wrote to stderr."""
    path = find(argv[0])
    if path is None:
        raise KernelError("ProgramMissing", f"{argv[0]} is not installed")
    process = await asyncio.create_subprocess_exec(
        path,
        *argv[1:],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate(stdin.encode())
    except TimeoutError:
        raise KernelError("ProgramSlow", f"{argv[0]} did not end within {SECONDS:.0f} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        raise KernelError(reason, f"{argv[0]}: {err.decode(errors='replace').strip()[:_TEXT]}")
    return out.decode()
