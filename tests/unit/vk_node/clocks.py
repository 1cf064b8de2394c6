"""Clocks that tests turn by hand."""

from datetime import UTC, datetime, timedelta

from vk.node.clock import Clock


class HandClock:
    """A monotonic and a wall clock; `pass_time` moves both, `jump` the wall clock alone."""

    def __init__(self) -> None:
        self.ticks = 1000.0
        self.wall = datetime(2026, 1, 1, tzinfo=UTC)

    def pass_time(self, seconds: float) -> None:
        self.ticks += seconds
        self.wall += timedelta(seconds=seconds)

    def jump(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)

    @property
    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.ticks, now=lambda: self.wall)
