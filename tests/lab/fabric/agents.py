"""Agents as their pods would run them: with the arguments of `deploy/network` and certificates from a Secret."""

from __future__ import annotations

import base64
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from deploy.lab.paths import ROOT
from tests.lab.fabric.places import Place
from tests.lab.fabric.prefork import Prefork, Process

Json = dict[str, Any]

MANIFESTS = ROOT / "deploy/network"
ISTHMUS = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-P", "-m", "isthmus"]
"""The program of this checkout, whatever is installed."""


class Agent:
    """An agent as its pod would run it."""

    def __init__(self, place: Place, *, role: str, name: str, address: str, folder: Path, prefork: Prefork) -> None:
        self.place, self.role, self.name, self.address = place, role, name, address
        self._folder = folder / name
        self._prefork = prefork
        self.process: Process | None = None

    def certify(self, secret: Json) -> None:
        """What the Secret's volume holds."""
        files = self._folder / "tls"
        files.mkdir(parents=True, exist_ok=True)
        for name, text in secret["data"].items():
            (files / name).write_bytes(base64.b64decode(text))

    def start(self) -> None:
        """As `deploy/network` says."""
        arguments = _arguments({"gateway": "gateway.yaml", "node": "node.yaml"}[self.role])
        known = {"$(POD_NAME)": self.name, "$(NODE_NAME)": self.name, "/etc/isthmus/tls": f"{self._folder}/tls"}
        known |= {"/run/isthmus": f"{self._folder}/run", "/host/proc": "/proc"}
        known |= {"$(POD_IP)": self.address, "$(HOST_IP)": self.address}
        for placeholder, text in known.items():
            arguments = [one.replace(placeholder, text) for one in arguments]
        arguments.append(f"--state-directory={self._folder}/kept")
        self.process = self._prefork.start(self.place, arguments, log=self._folder / "log")

    def end(self, number: signal.Signals) -> None:
        """SIGKILL as by a crash, SIGTERM as when its pod is deleted."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(timeout=30)
            self.process = None

    def clean(self) -> None:
        """What an administrator runs last; the agent must not run."""
        self.place.run(
            [*ISTHMUS, "fabric-agent", "--role", self.role, f"--state-directory={self._folder}/kept", "--clean"]
        )

    @property
    def log(self) -> str:
        """The end of what it wrote."""
        file = self._folder / "log"
        return "\n".join(file.read_text().splitlines()[-30:]) if file.exists() else ""


def _arguments(file: str) -> list[str]:
    (container,) = yaml.safe_load((MANIFESTS / file).read_text())["spec"]["template"]["spec"]["containers"]
    return list(container["args"])
