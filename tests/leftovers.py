"""What tests must not leave in a lab that others share."""

from deploy.lab.lab import Lab

_VIRTUAL = "offloading.isthmus.dev/node"


def no_nodes(lab: Lab) -> None:
    """AssertionError if there is a virtual node: what offloads would go there. It is removed, for those who follow."""
    left = lab.consumer.kubectl("get", "nodes", "--selector", _VIRTUAL, "-o", "name").split()
    for node in left:
        lab.consumer.kubectl("delete", node, "--ignore-not-found")
    assert not left, f"left behind: {left}"
