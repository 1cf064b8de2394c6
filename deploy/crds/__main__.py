"""`python -m deploy.crds` writes the CRDs and their pages in docs/objects; with --check it tells what is stale."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from api.definitions import DEFINITIONS
from deploy.crds import pages
from deploy.lab.paths import ROOT
from kube import crd

FOLDER = Path(__file__).parent
_HEAD = "# Made from the types in api/ by `python -m deploy.crds`: change those.\n"


def main(arguments: list[str]) -> int:
    """Write or check; 1 if something is stale."""
    if "--check" not in arguments:
        for file, text in files():
            file.write_text(text)
        return 0
    stale = [file.name for file, text in files() if not file.exists() or file.read_text() != text]
    if stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; run `python -m deploy.crds`\n")
    return 1 if stale else 0


def files() -> Iterator[tuple[Path, str]]:
    """Each file and what it has to hold."""
    for definition in DEFINITIONS:
        made = crd.manifest(definition)
        name = f"{definition.resource.plural}.{definition.resource.group}.yaml"
        yield FOLDER / name, _HEAD + yaml.safe_dump(made, sort_keys=False, width=120)
        yield ROOT / "docs/objects" / f"{definition.resource.kind.lower()}.md", pages.page(definition)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
