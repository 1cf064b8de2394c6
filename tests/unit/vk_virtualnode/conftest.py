"""VirtualNodes and Nodes as tests need them."""

from typing import Any

import msgspec

from api.offloading.virtual_node import VirtualNode
from vk.node.objects import Node


def virtual_node(name: str = "one", **spec: Any) -> VirtualNode:
    fields = {"provider": "north", "kubeconfigSecret": {"name": "north"}, **spec}
    metadata = {"name": name, "uid": f"uid-{name}", "generation": 3}
    return msgspec.convert({"metadata": metadata, "spec": fields}, VirtualNode)


def node(name: str = "one", *, taints: Any = (), conditions: Any = (), **status: Any) -> Node:
    body = {
        "metadata": {"name": name},
        "spec": {"taints": taints},
        "status": {"conditions": conditions, **status},
    }
    return msgspec.convert(body, Node)
