"""The fabric's paths on the kernel's own WireGuard and GENEVE, in a guest (deploy/lab/guest).

Part `fabric-guest`: its processor is emulated, so figures are no figures of any machine. What they count is
instructions: a second is a thousand million of them, whatever else this machine does, and a ratio is that of what
packets cost on two ways. Part `fabric-uml`: it is this machine's, and so is the time; the kernel is a program, which
enters and leaves processes at a higher price than one that has the machine, and encrypts without vector instructions.
As a program (`python -m tests.bench.fabric_guest ROUNDS SECONDS EXCHANGES`) it is what runs there.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

from deploy.lab.guest import boot
from deploy.lab.guest.machines import Machine
from tests.bench import fabric, ways
from tests.bench.report import Report, progress
from tests.bench.settings import BenchSettings
from tests.lab.fabric.world import connected

MACHINES = {"fabric-guest": Machine.COUNTED, "fabric-uml": Machine.UML}
"""By part of the bench."""
_RESULT = "bench-result:"
_TIMEOUT = 1800.0
_TECHNOLOGIES = {"wg-east": "wireguard", "un-1": "geneve"}


def run(part: str, settings: BenchSettings, report: Report) -> None:
    """Boot the part's guest, have it measure, and take over what it found."""
    name = part.removeprefix("fabric-")
    words = [str(number) for number in (settings.rounds, settings.fabric_seconds, settings.exchanges)]
    found: list[dict[str, Any]] = []

    def tell(line: str) -> None:
        if line.startswith(_RESULT):
            found.append(json.loads(line.removeprefix(_RESULT)))
        else:
            progress(f"{name}: {line}")

    code = boot.run(
        ["python3", "-m", "tests.bench.fabric_guest", *words], timeout=_TIMEOUT, machine=MACHINES[part], tell=tell
    )
    assert (code, len(found)) == (0, 1), f"the guest's bench ended with exit code {code}"
    report.rows += [(f"{name}: {what}", *values) for what, *values in found[0]["rows"]]
    for what, values in found[0]["raw"].items():
        report.raw.setdefault(f"{name} {what}", []).extend(values)


def main() -> None:
    """In the guest."""
    rounds, seconds, exchanges = (int(word) for word in sys.argv[1:])
    report = Report()
    with connected() as world, ways.opened(world) as found:
        for link, kind in _TECHNOLOGIES.items():
            assert link in world.west.gateway.run(["ip", "-o", "link", "show", "type", kind]), "not the kernel's own"
        # On such a processor a look at the kernel every few seconds costs more than packets do, on whichever way.
        for cluster in world.clusters:
            for agent in cluster.agents.values():
                agent.send(signal.SIGSTOP)
        fabric.paths(found, BenchSettings(rounds=rounds, fabric_seconds=seconds, exchanges=exchanges), report)
    sys.stdout.write(_RESULT + json.dumps({"rows": report.rows, "raw": report.raw}) + "\n")


if __name__ == "__main__":
    main()
