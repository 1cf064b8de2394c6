"""Reflectors that come and go: one owner for all their tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kube.reflector import Reflector


class ReflectorPool:
    """`run` must be running for `start` to have effect."""

    def __init__(self) -> None:
        self._tasks: dict[Reflector[Any], asyncio.Task[None] | None] = {}
        self._wanted: asyncio.Queue[tuple[Reflector[Any], Callable[[], None], str]] = asyncio.Queue()

    def start(self, reflector: Reflector[Any], *, name: str, synced: Callable[[], None]) -> None:
        """Run it; `synced` is called when its first list is complete."""
        self._tasks[reflector] = None
        self._wanted.put_nowait((reflector, synced, name))

    def stop(self, reflector: Reflector[Any]) -> None:
        """End it; its store stays as it is, and nothing more is told."""
        task = self._tasks.pop(reflector, None)
        if task is not None:
            task.cancel()

    async def run(self) -> None:
        """Ends only by cancellation or a programming error."""
        async with asyncio.TaskGroup() as group:
            while True:
                reflector, synced, name = await self._wanted.get()
                if reflector in self._tasks:
                    self._tasks[reflector] = group.create_task(_run(reflector, synced), name=f"reflector/{name}")


async def _run(reflector: Reflector[Any], synced: Callable[[], None]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(reflector.run(), name="watch")
        await reflector.synced.wait()
        synced()
