"""Results: progress on standard error, a table on standard output, raw data as JSON."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.lab.paths import ROOT

FOLDER = ROOT / ".bench"


def progress(text: str) -> None:
    """One line for who waits."""
    load = os.getloadavg()[0]
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} bench: {text} [load {load:.1f}]\n")
    sys.stderr.flush()


@dataclass(slots=True)
class Report:
    """Rows of the table, and everything that was measured."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)
    raw: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, what: str, direct: Sequence[float], isthmus: Sequence[float], *, digits: int = 2) -> None:
        """A row with both sides and their ratio; either may have no values."""
        ratio = ""
        if direct and isthmus and statistics.median(direct):
            ratio = f"{statistics.median(isthmus) / statistics.median(direct):.2f}"
        self.rows.append((what, spread(direct, digits), spread(isthmus, digits), ratio))

    def keep(self, part: str, values: dict[str, Any]) -> None:
        """Raw data."""
        self.raw.setdefault(part, []).append({"load": os.getloadavg(), **values})

    def table(self) -> str:
        """The table as text."""
        head = ("median [least-most]", "direct", "isthmus", "ratio")
        lines = [head, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        text.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
        return "\n".join(line.rstrip() for line in text) + "\n"

    def save(self, settings: dict[str, Any]) -> Path:
        """Write everything to a file of its own."""
        FOLDER.mkdir(exist_ok=True)
        file = FOLDER / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.json"
        content = {"settings": settings, "cores": os.cpu_count(), "table": self.rows, "raw": self.raw}
        file.write_text(json.dumps(content, indent=1))
        return file


def spread(values: Sequence[float], digits: int) -> str:
    """Median and range; nothing for no values."""
    if not values:
        return "-"
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} [{min(values):.{digits}f}-{max(values):.{digits}f}]"
