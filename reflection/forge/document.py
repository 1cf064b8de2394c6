"""Printing the table of Pod fields for people: `python -m reflection.forge.document > docs/pod-fields.md`."""

from __future__ import annotations

import sys
from typing import Final

from reflection.forge.fields import TABLE, Rule

_HEAD: Final = """\
# What becomes of a pod's fields at the provider

Printed from the table in `reflection/forge/fields.py` by `python -m reflection.forge.document`; a test keeps the two in
step, and another compares the table with the schema of a running API server. A field that is not listed belongs to
a newer API and is copied. A refused pod stays Pending with reason `OffloadRefused`, and its message names the field.

Of the metadata, name, labels and annotations travel, and their changes too; keys below `isthmus.dev`,
`kubectl.kubernetes.io/last-applied-configuration` and a kubelet's own `kubernetes.io/config.*` do not. Owner references
and finalizers are the consumer's business. The downward API shows the consumer's values throughout,
but for one: `resourceFieldRef` of a limit that the container does not have shows, as on any node, what the node has to
give, and that is the provider's node, for the process learns of it only there.
"""


def document() -> str:
    """Give the page as Markdown."""
    parts = [_HEAD]
    for kind, rules in TABLE.items():
        rows = "".join(
            f"| `{name}` | {rule.treatment.value} | {_why(rule)} |\n" for name, rule in sorted(rules.items())
        )
        parts.append(f"\n## {kind}\n\n| field | treatment | how or why |\n|---|---|---|\n{rows}")
    return "".join(parts)


def _why(rule: Rule) -> str:
    return rule.why.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(document())
