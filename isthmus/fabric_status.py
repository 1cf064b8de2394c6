"""`isthmus fabric-agent status`: what a running agent says of itself; docs/network.md explains each line."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from isthmus import options
from isthmus.fabric_agent import DEFAULT_SOCKET
from netfabric.agent import client, statustext


class FabricStatusOptions(options.LogOptions, kw_only=True, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """What the user may set."""

    address: Annotated[str, Meta(description="where the agent listens: unix:/path")] = DEFAULT_SOCKET
    timeout: Annotated[float, Meta(description="seconds to wait for its answer", gt=0)] = 5.0


def command(arguments: Sequence[str], *, purpose: str) -> int:
    """Print the status; 0 if all is well, 1 if not, 2 if the agent can't be asked."""
    try:
        chosen = options.parse(arguments, FabricStatusOptions, command="fabric-agent status", purpose=purpose)
        state = asyncio.run(client.state(chosen.address, timeout=chosen.timeout))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"isthmus fabric-agent status: {error}\n")
        return 2
    text, well = statustext.render(state)
    sys.stdout.write(text)
    return 0 if well else 1
