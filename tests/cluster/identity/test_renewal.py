"""Credentials that end soon, and a signer that is away: what works goes on working.

The provider's signer is stopped, and started again so that it issues certificates for 45 s only (its least lifetime is
an option of the controller manager), which are renewed when 30 s are over, as those of 24 h are after 16 h.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from deploy.lab.lab import Lab
from deploy.lab.process import Unit
from tests.cluster.identity.conftest import LONG, Peering, condition
from tests.kubectl import eventually

Json = dict[str, Any]
LIFE = timedelta(seconds=45)
SIGNER = "kube-controller-manager"
MARK = "authentication.isthmus.dev"


@contextmanager
def signer_away(lab: Lab) -> Iterator[Unit]:
    """The provider's signer is stopped, and gives way to one, to be started, that issues for a short time; in the end
    it is as it was."""
    usual = lab.provider.unit(SIGNER)
    spec = replace(usual.spec, argv=[*usual.spec.argv, f"--cluster-signing-duration={int(LIFE.total_seconds())}s"])
    usual.stop()
    brief = Unit(spec, lab.provider.plan.units)
    try:
        yield brief
    finally:
        brief.stop()
        usual.start()


class User:
    """Uses the credential all the time, as a virtual kubelet does: always the one that is in the Secret now."""

    def __init__(self, peering: Peering) -> None:
        self.failed: list[str] = []
        self.done = 0
        self._peering = peering
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "User":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(LONG)

    def _run(self) -> None:
        while not self._stop.wait(0.3):
            said = self._peering.credential("used").result("get", "namespacemaps")
            self.done += 1
            if said.returncode:
                self.failed.append(said.stderr.decode())


def marks(peering: Peering) -> dict[str, datetime]:
    """Times that the Secret with the kubeconfig carries."""
    found = peering.consumer.get("secret", f"provider-{peering.name}")["metadata"]["annotations"]
    names = ("renewed", "renew-after", "expires")
    return {name: datetime.fromisoformat(found[f"{MARK}/{name}"]) for name in names}


def make_due(peering: Peering) -> None:
    """As if two thirds of the credential's life were over now."""
    past = f"{MARK}/renew-after=2020-01-01T00:00:00Z"
    peering.consumer.run("annotate", "--overwrite", "secret", f"provider-{peering.name}", past)
    peering.consumer.run("annotate", "--overwrite", "identity", peering.name, "looked-at=now")


def says(peering: Peering, reason: str) -> Json:
    found = peering.consumer.wait_for(
        "identity", peering.name, lambda it: condition(it)["reason"] == reason, what=reason, timeout=LONG
    )
    return condition(found)


@pytest.mark.timeout(400)
def test_f23_f25_credentials_are_renewed_at_two_thirds_and_an_absent_signer_is_survived(
    lab: Lab, peering: Peering
) -> None:
    peering.exchange()
    eventually(lambda: peering.credential().run("get", "namespacemaps") is not None, what="rights", timeout=LONG)
    first = marks(peering)
    life = first["expires"] - first["renewed"]
    assert abs(life - timedelta(hours=24)) < timedelta(minutes=10)
    assert abs(first["renew-after"] - first["renewed"] - life * 2 / 3) < timedelta(seconds=5)
    old = peering.credential("old")
    with User(peering) as user, signer_away(lab) as signer:
        make_due(peering)
        said = says(peering, "RenewalPending")
        assert said["status"] == "True"
        assert "could not be renewed yet" in said["message"]
        signer.start()
        says(peering, "LetIn")
        second = marks(peering)
        assert second["expires"] - second["renewed"] <= LIFE
        assert old.run("get", "namespacemaps") is not None  # both are good for a while
        eventually(lambda: marks(peering)["renewed"] > second["renewed"], what="another renewal", timeout=LONG)
        third = marks(peering)
    assert second["renew-after"] <= third["renewed"] < second["expires"]
    assert user.done > 10
    assert user.failed == []
    # With the usual signer back, the next one is of the usual life.
    make_due(peering)
    eventually(lambda: marks(peering)["expires"] - third["expires"] > timedelta(hours=1), what="a day", timeout=LONG)
