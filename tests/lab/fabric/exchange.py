"""How administrators tell each other of their clusters: `isthmus network export` here, kubectl there."""

from __future__ import annotations

import subprocess

from tests.kubectl import Kubectl, KubectlError, eventually
from tests.lab.fabric.agents import ISTHMUS

LONG = 60.0


def export(kubectl: Kubectl, peer: str, *, named: str) -> str:
    """What `isthmus network export` prints once it can; `named` is what the peer calls this cluster."""
    command = [*ISTHMUS, "network", "export", peer, "--named", named, f"--kubeconfig={kubectl.kubeconfig}"]

    def told() -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise KubectlError(done.stderr)
        return done.stdout

    return eventually(told, what="the export", timeout=LONG)


def take(kubectl: Kubectl, peer: str, manifest: str) -> None:
    """What the header of an export says to do."""
    told = next(line for line in manifest.splitlines() if "kubectl patch" in line)
    words = told.partition("kubectl ")[2].replace("FILE", "/dev/stdin").split()
    assert words[:3] == ["patch", "networkpeering", peer]
    kubectl.run(*words, stdin=manifest)
