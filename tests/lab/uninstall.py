"""isthmus taken away from a consumer as its users are told to."""

from tests.kubectl import Kubectl, eventually

_KIND = "virtualnodes.offloading.isthmus.dev"
_IN_USE = "isthmus is in use"
_LONG = 180.0


def uninstall(kubectl: Kubectl, manifests: str) -> None:
    """First what isthmus has to take back, then isthmus."""
    if kubectl.exists("crd", _KIND):
        kubectl.run("delete", "virtualnodes", "--all", timeout=_LONG)
        kubectl.run("delete", "identities", "--all", timeout=_LONG)
    delete_until_allowed(kubectl, manifests)


def delete_until_allowed(kubectl: Kubectl, manifests: str) -> None:
    """`kubectl delete -k`, repeated while it is refused because VirtualNodes were there until a moment ago.

    The manager takes its admission policy away, and an API server hears of that when it hears of it.
    """
    policy = ("validatingadmissionpolicybinding", "isthmus-in-use")
    kubectl.wait_gone(*policy, timeout=_LONG)

    def deleted() -> bool:
        done = kubectl.result("delete", "-k", manifests, "--ignore-not-found", timeout=_LONG)
        said = done.stderr.decode(errors="replace")
        refused = [line for line in said.splitlines() if line.startswith("Error") and _IN_USE not in line]
        assert done.returncode == 0 or (_IN_USE in said and not refused), said
        return done.returncode == 0

    eventually(deleted, what="the policy to be out of force", timeout=_LONG, every=0.5)
