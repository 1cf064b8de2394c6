"""`python -m deploy.rights` writes docs/rights.md from the roles in `deploy`; with --check it tells if that is stale.

Who has which role where is said here and nowhere else; tests compare what each credential can do with it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.lab.paths import ROOT

Json = dict[str, Any]
PAGE = ROOT / "docs" / "rights.md"
OWN = "isthmus"
TENANT = "isthmus-<id>"
MAPPED = "namespaces made for it"
CLUSTER = "cluster"
KUBELET = "virtual kubelet, besides what a node may do"


@dataclass(frozen=True, slots=True)
class Holder:
    """A credential, and the roles that it has in one place."""

    side: str
    who: str
    where: str
    roles: tuple[str, ...]


HOLDERS = (
    Holder("provider", "invited, or joining with a Tenant's key", TENANT, ("isthmus-tenant-join",)),
    Holder("provider", "consumer", TENANT, ("isthmus-tenant", "isthmus-managed-tenant")),
    Holder("provider", "consumer", MAPPED, ("isthmus-managed-consumer", "isthmus-kinds-remote")),
    Holder("provider", "manager", CLUSTER, ("isthmus-managed-provider", "isthmus-tenants")),
    Holder("provider", "manager", TENANT, ("isthmus-tenants-manager",)),
    Holder("provider", "manager", OWN, ("isthmus-manager-election",)),
    Holder(
        "consumer",
        "manager",
        CLUSTER,
        ("isthmus-manager", "isthmus-peers", "isthmus-manager-scheduling", "isthmus-manager-storage"),
    ),
    Holder(
        "consumer",
        "manager",
        OWN,
        ("isthmus-manager-election", "isthmus-manager/isthmus", "isthmus-manager-scheduling/isthmus"),
    ),
    Holder("consumer", KUBELET, CLUSTER, ("isthmus-namespace-offloadings",)),
    Holder("consumer", KUBELET, "offloaded namespaces", ("isthmus-kinds",)),
)

Right = tuple[str, str, str, str]
"""API group (or URL), resource, name (* is any), verb."""


def rules() -> dict[str, list[Json]]:
    """The rules of each role of `deploy`, by name; a namespaced one also by name/namespace."""
    found: dict[str, list[Json]] = {}
    folders = ("rbac", "manager")
    for file in sorted(file for folder in folders for file in (ROOT / "deploy" / folder).rglob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if document.get("kind") in ("ClusterRole", "Role"):
                name, namespace = document["metadata"]["name"], document["metadata"].get("namespace")
                found.setdefault(name, document["rules"])
                if namespace:
                    found[f"{name}/{namespace}"] = document["rules"]
    return found


def rights(some: Sequence[Json]) -> set[Right]:
    """Rules taken apart."""
    return {
        (group, resource, name, verb)
        for rule in some
        for verb in rule["verbs"]
        for group in rule.get("apiGroups") or ()
        for resource in rule.get("resources") or ()
        for name in rule.get("resourceNames") or ("*",)
    } | {(url, "", "*", verb) for rule in some for verb in rule["verbs"] for url in rule.get("nonResourceURLs") or ()}


def of(side: str, who: str, where: str) -> set[Right]:
    """All that a credential may do in one place by its roles there."""
    known = rules()
    holders = [one for one in HOLDERS if (one.side, one.who, one.where) == (side, who, where)]
    return {right for one in holders for role in one.roles for right in rights(known[role])}


def page() -> str:
    """The documentation's page."""
    return "\n".join((_HEAD, *_rows())) + "\n"


def _rows() -> Iterator[str]:
    known = rules()
    for side in ("provider", "consumer"):
        yield f"\n## At the {side}\n| who | where | role | what |\n|---|---|---|---|"
        for holder in HOLDERS:
            if holder.side == side:
                for role in holder.roles:
                    what = "; ".join(_said(rule) for rule in known[role])
                    yield f"| {holder.who} | {holder.where} | `{role.partition('/')[0]}` | {what} |"


def _said(rule: Json) -> str:
    groups = "/".join(group.removesuffix(".k8s.io") for group in rule.get("apiGroups") or () if group)
    names = f" named {', '.join(rule['resourceNames'])}" if rule.get("resourceNames") else ""
    what = ", ".join(rule.get("resources") or rule.get("nonResourceURLs") or ())
    return f"{what}{f' ({groups})' if groups else ''}{names}: {', '.join(rule['verbs'])}"


_HEAD = """# Rights

What each credential may do, by the roles in `deploy/rbac` and `deploy/manager`. This page is made from them by
`python -m deploy.rights`; `tests/cluster/identity/test_rights.py` and `tests/lab/test_manager.py` compare it with what
API servers say that the credentials can do. Admission policies confine that further: the provider's manager works in
namespaces that it made for consumers and nowhere else (`deploy/policies/managed`), and consumers may not make all
of a kind (`deploy/policies/consumers`). `<id>` is the consumer's; nobody has a right in a place that is not named."""


def main(arguments: list[str]) -> int:
    """Write or check; 1 if it is stale."""
    if "--check" not in arguments:
        Path(PAGE).write_text(page())
        return 0
    stale = not PAGE.exists() or PAGE.read_text() != page()
    if stale:
        sys.stderr.write("stale: docs/rights.md; run `python -m deploy.rights`\n")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
