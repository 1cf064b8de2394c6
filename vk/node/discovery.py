"""What the provider tells about itself: version, operating system and architecture, for the Node's info and labels.

The version is the API server's, for admission and the scheduler look at it. Nodes are asked for the architecture
where our credential may read them; else the API server's own platform has to do, or what the user says.
"""

from collections import Counter

import msgspec
import structlog

from kube.client import Client
from kube.errors import ApiError, ProtocolError
from kube.resources import NODES

_SAMPLE = 50

_log = structlog.get_logger(__name__)


class Facts(msgspec.Struct, frozen=True):
    """What a provider is. `version` as Kubernetes writes it: v1.34.4."""

    version: str
    os: str
    arch: str


class _Version(msgspec.Struct, rename="camel"):
    git_version: str
    platform: str = "linux/amd64"


class _NodeInfo(msgspec.Struct, rename="camel"):
    operating_system: str = ""
    architecture: str = ""


class _NodeStatus(msgspec.Struct, rename="camel"):
    node_info: _NodeInfo = msgspec.field(default_factory=_NodeInfo)


class _Node(msgspec.Struct):
    status: _NodeStatus = msgspec.field(default_factory=_NodeStatus)


class _Nodes(msgspec.Struct):
    items: list[_Node] = []


async def discover(client: Client) -> Facts:
    """Ask the provider; KubeError if it cannot be reached or is no Kubernetes API server."""
    try:
        version = msgspec.json.decode(await client.raw("GET", "/version"), type=_Version)
    except msgspec.DecodeError as error:
        message = "GET /version: what answered is no Kubernetes API server"
        raise ProtocolError(message) from error
    os, _, arch = version.platform.partition("/")
    os, arch = await _most_common(client) or (os, arch)
    return Facts(version=version.git_version, os=os or "linux", arch=arch or "amd64")


async def _most_common(client: Client) -> tuple[str, str] | None:
    """The platform of most of the provider's nodes, by a sample; None if we may not see them or there are none."""
    try:
        body = await client.raw("GET", NODES.path(), params=[("limit", str(_SAMPLE))])
        nodes = msgspec.json.decode(body, type=_Nodes)
    except (ApiError, msgspec.DecodeError) as error:
        _log.info("provider_nodes_unreadable", error=str(error))
        return None
    platforms = [(node.status.node_info.operating_system, node.status.node_info.architecture) for node in nodes.items]
    counted = Counter(platform for platform in platforms if all(platform))
    return counted.most_common(1)[0][0] if counted else None
