"""The fabric's paths on the kernel's own WireGuard and GENEVE, in a guest (deploy/lab/guest).

Its processor is emulated, so figures are no figures of any machine. What they count is instructions: a second is a
thousand million of them, whatever else this machine does, and a ratio is that of what packets cost on two ways. As a
program (`python -m tests.bench.fabric_guest ROUNDS SECONDS EXCHANGES`) it is what runs there.
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

_RESULT = "bench-result:"
_TIMEOUT = 1800.0
_TECHNOLOGIES = {"wg-east": "wireguard", "un-1": "geneve"}


def run(settings: BenchSettings, report: Report) -> None:
    """Boot a guest, have it measure, and take over what it found."""
    words = [str(number) for number in (settings.rounds, settings.fabric_seconds, settings.exchanges)]
    found: list[dict[str, Any]] = []

    def tell(line: str) -> None:
        if line.startswith(_RESULT):
            found.append(json.loads(line.removeprefix(_RESULT)))
        else:
            progress(f"guest: {line}")

    code = boot.run(
        ["python3", "-m", "tests.bench.fabric_guest", *words], timeout=_TIMEOUT, machine=Machine.COUNTED, tell=tell
    )
    assert (code, len(found)) == (0, 1), f"the guest's bench ended with exit code {code}"
    report.rows += [(f"guest: {what}", *values) for what, *values in found[0]["rows"]]
    for part, values in found[0]["raw"].items():
        report.raw.setdefault(f"guest {part}", []).extend(values)


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
