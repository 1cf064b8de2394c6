"""isthmus taken away from a cluster as its users are told to."""

from tests.kubectl import Kubectl, eventually

_KIND = "virtualnodes.offloading.isthmus.dev"
_NEEDLESS = (
    _KIND,
    "shadowpods.offloading.isthmus.dev",
    "namespacemaps.offloading.isthmus.dev",
    "resourceslices.authentication.isthmus.dev",
)
"""Kinds that the removal of others asks for."""
_IN_USE = "isthmus is in use"
_LONG = 180.0


def uninstall(kubectl: Kubectl, manifests: str) -> None:
    """First the VirtualNodes, so that all their pods end in order, then isthmus with all that is left."""
    if kubectl.exists("crd", _KIND):
        kubectl.delete("virtualnodes", "--all", timeout=_LONG)
    delete_until_allowed(kubectl, manifests)


def delete_until_allowed(kubectl: Kubectl, manifests: str) -> None:
    """`kubectl delete -k`, repeated while it is refused because of what isthmus has to end first.

    The manager takes its admission policy away, and an API server hears of that when it hears of it.
    """

    def deleted() -> bool:
        done = kubectl.result("delete", "-k", manifests, "--ignore-not-found", timeout=_LONG)
        said = done.stderr.decode(errors="replace")
        refused = [line for line in said.splitlines() if line.startswith("Error") and _IN_USE not in line]
        assert done.returncode == 0 or (_IN_USE in said and not refused), said
        return done.returncode == 0

    _without_definitions(kubectl)
    eventually(deleted, what="isthmus to be out of use", timeout=_LONG, every=0.5)


def _without_definitions(kubectl: Kubectl) -> None:
    """Take the definitions first of which there are no objects: kubectl may, and managers may be slower than it."""
    for kind in _NEEDLESS:
        if kubectl.exists("crd", kind) and not kubectl.run("get", kind, "--all-namespaces", "-o", "name").strip():
            kubectl.delete("crd", kind)
