"""When a provider's ends of pods are told to an administrator."""

from __future__ import annotations

import msgspec
import pytest

from kube.objects import Metadata, Object
from kube.store import Change
from reflection import massend
from reflection.massend import MassEnd


class Scene:
    """Pods that run on both sides, and what was told."""

    def __init__(self, count: int, *, policy: str = "Always") -> None:
        self.now = 0.0
        self.told: list[str] = []
        self.origins = {str(number): pod(str(number), "Running", policy=policy) for number in range(count)}
        self.mass = MassEnd(
            origin=lambda remote: self.origins.get(remote.metadata.name),
            total=lambda: len(self.origins),
            tell=self.told.append,
            clock=lambda: self.now,
        )

    def change(self, name: str, new: Object | None, *, old: str = "Running") -> None:
        self.mass.remote_changed(Change(("ns", name), pod(name, old), new, initial=False))

    def vanish(self, *names: str) -> None:
        for name in names:
            self.change(name, None)


def pod(name: str, phase: str, *, policy: str = "Always", deleted: str | None = None) -> Object:
    return Object(
        metadata=Metadata(name=name, namespace="ns", uid=name, deletion_timestamp=deleted),
        spec=msgspec.Raw(msgspec.json.encode({"restartPolicy": policy})),
        status=msgspec.Raw(msgspec.json.encode({"phase": phase})),
    )


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_a36_many_pods_that_vanish_are_told_once() -> None:
    scene = Scene(20)
    scene.vanish(*names(9))
    assert scene.told == []
    scene.vanish(*names(20)[9:])
    (told,) = scene.told
    assert told.startswith("10 of 20 pods")


def test_a36_a_provider_that_says_succeeded_of_what_has_no_end_is_told() -> None:
    scene = Scene(12)
    for name in names(12):
        scene.change(name, pod(name, "Succeeded"))
    assert len(scene.told) == 1


def test_jobs_that_run_to_their_end_are_nothing_to_tell() -> None:
    scene = Scene(30, policy="OnFailure")
    for name in names(30):
        scene.change(name, pod(name, "Succeeded"))
    assert scene.told == []


def test_what_was_asked_for_here_is_nothing_to_tell() -> None:
    scene = Scene(30)
    scene.origins = {name: pod(name, "Running", deleted="2026-01-01T00:00:00Z") for name in names(30)}
    scene.vanish(*names(30))
    scene.origins.clear()
    scene.vanish(*names(30))
    assert scene.told == []


@pytest.mark.parametrize("gap", [massend.WINDOW / 5, massend.WINDOW * 2])
def test_only_what_comes_together_counts(gap: float) -> None:
    scene = Scene(12)
    for name in names(12):
        scene.vanish(name)
        scene.now += gap
    assert scene.told == []


def test_a_pod_counts_once_and_it_is_told_again_after_a_while() -> None:
    scene = Scene(12)
    for _ in range(20):
        scene.vanish("0")
    assert scene.told == []
    scene.vanish(*names(12))
    scene.now = massend.QUIET + 1
    scene.vanish(*names(12))
    assert len(scene.told) == 2
