"""Faults on demand: links cut, programs stopped, killed or paused, and everything made whole again.

Every fault is a context manager, for a test that wants it for a while; `heal` undoes whatever is still on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deploy.lab.lab import Lab
from deploy.lab.process import Unit

API_SERVER = "kube-apiserver"


class Faults:
    """The faults of one lab that are on now. Not for use by two threads."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._cuts: list[tuple[str, str]] = []
        self._harmed: dict[tuple[str, str], Unit] = {}

    def cut(self, source: str, target: str, *, one_way: bool = False) -> None:
        """Drop all traffic from site `source` to site `target` (cluster, host or `root`), and back unless `one_way`."""
        pairs = [(source, target)] if one_way else [(source, target), (target, source)]
        for pair in pairs:
            if pair not in self._cuts:
                self._lab.network.cut(*(self._lab.site(name).name for name in pair))
                self._cuts.append(pair)

    def mend(self, source: str, target: str) -> None:
        """Undo `cut` in both directions."""
        for pair in ((source, target), (target, source)):
            if pair in self._cuts:
                self._lab.network.mend(*pair)
                self._cuts.remove(pair)

    @contextmanager
    def link_cut(self, source: str, target: str, *, one_way: bool = False) -> Iterator[None]:
        """Cut for the time of the block."""
        self.cut(source, target, one_way=one_way)
        try:
            yield
        finally:
            self.mend(source, target)

    def stop(self, cluster: str, unit: str) -> None:
        """Stop a component as an administrator does (SIGTERM)."""
        self._harm(cluster, unit).stop()

    def kill(self, cluster: str, unit: str) -> None:
        """Stop a component as a crash does (SIGKILL)."""
        self._harm(cluster, unit).kill()

    def pause(self, cluster: str, unit: str) -> None:
        """Freeze a component (SIGSTOP): connections stay and nothing is answered."""
        self._harm(cluster, unit).pause()

    def restore(self, cluster: str, unit: str) -> None:
        """Resume or start a component again; waits until an API server answers."""
        found = self._harmed.pop((cluster, unit), None)
        if found is None:
            return
        if found.alive:
            found.resume()
        else:
            found.start()
        if unit in (API_SERVER, "etcd"):
            self._lab.clusters[cluster].wait_api()

    @contextmanager
    def stopped(self, cluster: str, unit: str) -> Iterator[None]:
        """Stopped for the time of the block."""
        with self._for_a_while(self.stop, cluster, unit):
            yield

    @contextmanager
    def killed(self, cluster: str, unit: str) -> Iterator[None]:
        """Killed at the block's start, started again at its end."""
        with self._for_a_while(self.kill, cluster, unit):
            yield

    @contextmanager
    def paused(self, cluster: str, unit: str) -> Iterator[None]:
        """Frozen for the time of the block."""
        with self._for_a_while(self.pause, cluster, unit):
            yield

    def restart(self, cluster: str, unit: str) -> None:
        """Stop and start; waits until an API server answers."""
        self.stop(cluster, unit)
        self.restore(cluster, unit)

    def heal(self) -> None:
        """Undo everything."""
        for source, target in list(self._cuts):
            self.mend(source, target)
        for cluster, unit in list(self._harmed):
            self.restore(cluster, unit)

    @contextmanager
    def _for_a_while(self, harm: Callable[[str, str], None], cluster: str, unit: str) -> Iterator[None]:
        harm(cluster, unit)
        try:
            yield
        finally:
            self.restore(cluster, unit)

    def _harm(self, cluster: str, unit: str) -> Unit:
        found = self._lab.clusters[cluster].unit(unit)
        self._harmed[cluster, unit] = found
        return found
