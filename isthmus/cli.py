"""The command line: `isthmus <command>`."""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import TypeVar

from isthmus import logs, options
from kube import tlsbuffers

T = TypeVar("T", bound=options.LogOptions)

USAGE = """usage: isthmus COMMAND [options]

commands:
  virtual-kubelet   run one virtual node
  manager           run what turns isthmus' objects into virtual nodes or consumers' pods; one Deployment in a cluster
  peer              print what a provider has to apply to let us in, or do it on both sides
  peer invite       at a provider: let one consumer in by itself, and print what it has to apply
  fabric-agent      have the network that the fabric's controller wants on this machine or in this pod
  fabric-agent status
                    tell what a running fabric-agent has, measures and misses
  dns               answer offloaded pods' DNS questions, at the provider
  network export    print what the other side of a NetworkPeering is to apply
  version           print the version

`isthmus COMMAND --help` lists a command's options."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exits with 2 for wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = given[0] if given else ""
    if command == "virtual-kubelet":
        sys.exit(_virtual_kubelet(given[1:]))
    if command == "manager":
        sys.exit(_manager(given[1:]))
    if command == "peer":
        sys.exit(_peer(given[1:]))
    if command == "fabric-agent":
        sys.exit(_fabric_agent(given[1:]))
    if command == "dns":
        sys.exit(_dns(given[1:]))
    if command == "network":
        sys.exit(_network(given[1:]))
    if command in ("version", "--version"):
        sys.stdout.write(importlib.metadata.version("isthmus") + "\n")
        return
    stream = sys.stdout if command in ("help", "--help", "-h") else sys.stderr
    stream.write(USAGE + "\n")
    sys.exit(0 if stream is sys.stdout else 2)


def _virtual_kubelet(arguments: Sequence[str]) -> int:
    from isthmus import virtual_kubelet  # noqa: PLC0415 - `isthmus version` need not load everything

    purpose = "Run one virtual node."
    return _run(arguments, options.Options, virtual_kubelet.run, command="virtual-kubelet", purpose=purpose)


def _manager(arguments: Sequence[str]) -> int:
    from isthmus import manager  # noqa: PLC0415 - as above
    from isthmus.modules.options import ManagerOptions  # noqa: PLC0415

    purpose = "Run what turns isthmus' objects into virtual nodes, or into consumers' pods."
    return _run(arguments, ManagerOptions, manager.run, command="manager", purpose=purpose)


def _peer(arguments: Sequence[str]) -> int:
    from isthmus import invite, peer  # noqa: PLC0415 - as above

    if arguments[:1] == ["invite"]:
        purpose = "Let one consumer become a Tenant by itself, and print what it has to apply (it holds a token)."
        return _run(arguments[1:], invite.InviteOptions, invite.run, command="peer invite", purpose=purpose)
    purpose = "Print the Tenant that a provider has to apply to let this cluster in, or do all on both sides."
    return _run(arguments, peer.PeerOptions, peer.run, command="peer", purpose=purpose)


def _fabric_agent(arguments: Sequence[str]) -> int:
    from isthmus import fabric_agent, fabric_status  # noqa: PLC0415 - as above

    if arguments[:1] == ["status"]:
        purpose = "Tell what a running fabric agent has, measures and misses; ends with 1 if something is amiss."
        return fabric_status.command(arguments[1:], purpose=purpose)
    purpose = "Have the network that the fabric's controller wants."
    options_of = fabric_agent.FabricAgentOptions
    return _run(arguments, options_of, fabric_agent.run, command="fabric-agent", purpose=purpose)


def _dns(arguments: Sequence[str]) -> int:
    from isthmus import dns  # noqa: PLC0415 - as above

    return _run(arguments, dns.DnsOptions, dns.run, command="dns", purpose="Answer offloaded pods' DNS questions.")


def _network(arguments: Sequence[str]) -> int:
    from isthmus import network  # noqa: PLC0415 - as above

    purpose = "Print what the other side of a NetworkPeering is to apply."
    try:
        flags = network.arguments(arguments)
    except ValueError as error:
        sys.stderr.write(f"isthmus network: {error}\n")
        return 2
    return _run(flags, network.ExportOptions, network.export, command="network export", purpose=purpose)


def _run(
    arguments: Sequence[str],
    kind: type[T],
    program: Callable[[T], Coroutine[None, None, None]],
    *,
    command: str,
    purpose: str,
) -> int:
    try:
        chosen = options.parse(arguments, kind, command=command, purpose=purpose)
        tlsbuffers.install()
        logs.configure(level=chosen.log_level, form=chosen.log_format)
        asyncio.run(program(chosen))
    except ValueError as error:
        sys.stderr.write(f"isthmus {command}: {error}\n")
        return 2
    return 0
