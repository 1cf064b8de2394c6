"""The command line: `python -m deploy.lab COMMAND`, settings from the LAB_* environment variables."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence

from deploy.lab import approver, binaries, gomod, isthmus_image, lab, packages
from deploy.lab.api import Api
from deploy.lab.console import say
from deploy.lab.errors import LabError
from deploy.lab.guest import boot
from deploy.lab.guest.machines import Machine
from deploy.lab.pki import PairFiles
from deploy.lab.settings import LabSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        command(options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.lab", description=__doc__)
    commands = parser.add_subparsers(required=True)

    def add(name: str, command: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text)
        sub.set_defaults(command=command)
        return sub

    add("ensure", _ensure, "install packages and build binaries, start nothing")
    add("up", _up, "start the clusters and wait until they are usable")
    add("down", _down, "remove everything that the lab made")
    add("status", _status, "show labs and their programs")
    add("env", _env, "print shell lines to use the lab")
    add("approver", _approver, "approve the kubelets' certificate requests (part of a lab, runs by itself)")
    host = add("host", _host, "add a host to the lab's network and print its namespace and address")
    host.add_argument("name")
    host.add_argument("--node", action="append", default=[], help="node that serves from there")
    module = add("gomod", _gomod, "add a Kubernetes version: write the Go module that builds it")
    module.add_argument("version")
    kubectl = add("kubectl", _kubectl, "print the path of a kubectl (1.29: a released one; 1.34.4: the lab's own)")
    kubectl.add_argument("version")
    add("image", _image, "make the image of isthmus from the checkout and print its docker-archive's path")
    guest = add("guest", _guest, "run a command in a guest with Debian's kernel (kernel WireGuard, GENEVE)")
    guest.add_argument("--machine", type=Machine, choices=list(Machine), default=Machine.QEMU, help="%(choices)s")
    guest.add_argument("--timeout", type=float, default=600.0, help="seconds")
    guest.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    unit = add("unit", _unit, "stop, start, pause, resume or restart a program of a cluster")
    unit.add_argument("action", choices=["stop", "kill", "start", "pause", "resume", "restart"])
    unit.add_argument("cluster")
    unit.add_argument("name")
    return parser


def _settings() -> LabSettings:
    return LabSettings.from_env(os.environ)


def _guest(options: argparse.Namespace) -> None:
    words = [word for word in options.words if word != "--"] or ["uname", "-a"]
    if (code := boot.run(words, timeout=options.timeout, machine=options.machine, tell=print)) != 0:
        raise LabError(f"the guest's command ended with exit code {code}")


def _ensure(_: argparse.Namespace) -> None:
    packages.ensure(nodes=True)
    binaries.ensure_all()
    boot.ensure()


def _image(_: argparse.Namespace) -> None:
    print(isthmus_image.archive())


def _up(_: argparse.Namespace) -> None:
    settings = _settings()
    started = time.monotonic()
    made = lab.Lab.up(settings)
    took = time.monotonic() - started
    say(f"{', '.join(made.clusters)} up after {took:.1f} s; use them: source {made.output / 'env'}")


def _down(_: argparse.Namespace) -> None:
    lab.remove(_settings().name)


def _status(_: argparse.Namespace) -> None:
    for made in lab.instances():
        print(f"{made.name}: 198.18.{made.network.subnet}.0/24, files in {made.folder}")
        for cluster in made.clusters.values():
            states = [f"{name}{'' if cluster.unit(name).alive else ' (dead)'}" for name in cluster.unit_names()]
            print(f"  {cluster.name}: {cluster.url} {cluster.plan.version}: {', '.join(states)}")


def _env(_: argparse.Namespace) -> None:
    made = lab.Lab.open(_settings().name)
    print((made.output / "env").read_text(), end="")


def _host(options: argparse.Namespace) -> None:
    host = lab.Lab.open(_settings().name).add_host(options.name, nodes=options.node)
    print(f"{host.site.netns} {host.ip}")


def _gomod(options: argparse.Namespace) -> None:
    gomod.write(options.version)


def _kubectl(options: argparse.Namespace) -> None:
    print(binaries.kubectl(options.version))


def _unit(options: argparse.Namespace) -> None:
    made = lab.Lab.open(_settings().name)
    if options.cluster not in made.clusters:
        raise LabError(f"no cluster {options.cluster!r}, only {', '.join(made.clusters)}")
    unit = made.clusters[options.cluster].unit(options.name)
    getattr(unit, options.action)()


def _approver(_: argparse.Namespace) -> None:
    made = lab.Lab.open(_settings().name)
    watchers = []
    for cluster in made.clusters.values():
        pair = cluster.ca.save("approver", cluster.ca.client("lab:approver"))
        api = Api(cluster.url, ca=str(cluster.ca.files.certificate), pair=PairFiles(pair.certificate, pair.key))
        watchers.append(approver.Approver(api, addresses=made.addresses_file))
    approver.run_all(watchers)
