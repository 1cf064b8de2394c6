"""An instance of the lab: subnet, folder, network, clusters, hosts; made by `up`, removed without trace by `down`.

`down` does not trust what `up` wrote: processes are found by control group, networks by name, so it also clears a lab
that crashed half-made.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from deploy.lab import binaries, cgroups, limits, locks, network, packages, paths
from deploy.lab.cluster import LabCluster
from deploy.lab.components import node
from deploy.lab.console import run, say
from deploy.lab.errors import LabError
from deploy.lab.network import Network, Site
from deploy.lab.plan import ClusterPlan
from deploy.lab.process import Unit, UnitSpec
from deploy.lab.settings import LabSettings

_INSTANCE = "instance.json"
_COMPLETE = "complete"
_FIRST_CLUSTER, _FIRST_HOST, _LAST_HOST = 11, 101, 250
_GLOBAL = "instances"
_SHARED = "made-for-all"
_LIMITS = "limits-before"
_SUBNETS = range(200)


@dataclass(frozen=True, slots=True)
class Host:
    """A machine on the lab's network that is no cluster, e.g. where a virtual kubelet runs."""

    lab: str
    site: Site

    @property
    def ip(self) -> str:
        """Its address."""
        return self.site.ip

    @property
    def folder(self) -> Path:
        """Folder of its units' files and logs."""
        return paths.state(self.lab) / "hosts" / self.site.name

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """The command line that runs a program there, for a caller that starts it itself."""
        return self.site.command(argv)

    def start(self, name: str, argv: Sequence[str | Path], *, env: dict[str, str] | None = None) -> Unit:
        """Run a program there in the background; it ends with the lab at the latest."""
        group = f"{cgroups.TOP}/{self.lab}/hosts"
        cgroups.Group(group).create()
        spec = UnitSpec(name=name, argv=[str(word) for word in argv], netns=self.site.netns, group=group, env=env or {})
        unit = Unit(spec, self.folder)
        unit.start()
        return unit


class Lab:
    """A lab instance, running or not."""

    def __init__(self, settings: LabSettings, *, subnet: int) -> None:
        self.settings = settings
        self.network = Network(settings.name, subnet)
        self.folder = paths.state(settings.name)
        self.output = paths.output(settings.name)
        self.clusters = {name: self._cluster(name, index) for index, name in enumerate(settings.cluster_names)}

    @classmethod
    def up(cls, settings: LabSettings) -> Lab:
        """Make a lab and wait until it is usable; one that stands with the same settings is taken as it is.

        Remains of a killed bring-up or of a machine's restart are cleared first. LabError if it stands with other
        settings or with dead programs, or does not come up (it is removed then, unless LAB_KEEP_FAILED=1).
        """
        with locks.hold(f"instance-{settings.name}", waiting=f"another process works on lab {settings.name}, waiting"):
            packages.ensure(nodes=settings.nodes > 0)
            binaries.ensure(settings)
            if standing := _usable(settings):
                return standing
            lab = cls._allocate(settings)
            try:
                lab._bring_up()
            except BaseException:
                if os.environ.get("LAB_KEEP_FAILED", "") != "1":
                    _remove(settings.name)
                raise
            return lab

    @classmethod
    def open(cls, name: str) -> Lab:
        """The standing lab of this name, also from another process than the one that made it."""
        file = paths.state(name) / _INSTANCE
        if not file.exists():
            raise LabError(f"lab {name!r} is not up")
        data = json.loads(file.read_text())
        return cls(LabSettings.from_dict(data["settings"]), subnet=data["subnet"])

    @property
    def name(self) -> str:
        """LAB_NAME."""
        return self.settings.name

    @property
    def consumer(self) -> LabCluster:
        """The consumer cluster."""
        return self.clusters["consumer"]

    @property
    def provider(self) -> LabCluster:
        """The first provider cluster."""
        return self.clusters["provider"]

    @property
    def addresses_file(self) -> Path:
        """Which node may have which addresses, for the approver."""
        return self.folder / "addresses.json"

    def add_host(self, name: str, *, nodes: Sequence[str] = ()) -> Host:
        """Add a host to the network (or find it); the nodes named may have serving certificates for its address."""
        with locks.hold(f"hosts-{self.name}"):
            known: dict[str, int] = self._read("hosts.json")
            made = name not in known
            if made:
                free = set(range(_FIRST_HOST, _LAST_HOST)) - set(known.values())
                known[name] = min(free)
                self._write("hosts.json", known)
            host = Host(self.name, self.network.site(name, host=known[name]))
            if made:
                self.network.add(host.site)
        for virtual in nodes:
            self.allow_node(virtual, [host.ip])
        return host

    def allow_node(self, name: str, ips: Sequence[str]) -> None:
        """Let the approver accept serving certificates of the node for these addresses."""
        with locks.hold(f"addresses-{self.name}"):
            self._write("addresses.json", {**self._read("addresses.json"), name: list(ips)})

    def site(self, name: str) -> Site:
        """A cluster, host, or `root` (the machine itself) by name, for faults."""
        if name == network.ROOT_SITE:
            return self.network.root
        if name in self.clusters:
            return self.clusters[name].plan.site
        hosts = self._read("hosts.json")
        if name not in hosts:
            raise LabError(f"no site {name!r} in lab {self.name}")
        return self.network.site(name, host=hosts[name])

    def down(self) -> None:
        """Remove this lab."""
        remove(self.name)

    def _cluster(self, name: str, index: int) -> LabCluster:
        settings = self.settings
        return LabCluster(
            ClusterPlan(
                lab=settings.name,
                name=name,
                index=0 if settings.alike else index,
                site=self.network.site(name, host=_FIRST_CLUSTER + index),
                folder=self.folder / name,
                version=settings.version_of(name),
                nodes=settings.nodes,
                audit=settings.audit,
                gc_percent=settings.gc_percent,
                apps=settings.apps,
            )
        )

    @classmethod
    def _allocate(cls, settings: LabSettings) -> Lab:
        with locks.hold(_GLOBAL):
            _remove_unlocked(settings.name)
            taken = {lab.network.subnet for lab in instances()}
            present = network.links()
            subnet = next(n for n in _SUBNETS if n not in taken and Network("", n).link not in present)
            lab = cls(settings, subnet=subnet)
            lab.folder.mkdir(parents=True, mode=0o700)
            lab._write(_INSTANCE, {"settings": settings.to_dict(), "subnet": subnet})
            _make_shared(nodes=settings.nodes > 0)
            lab.network.up()
            return lab

    def _bring_up(self) -> None:
        for cluster in self.clusters.values():
            cgroups.Group(f"{cluster.plan.group}/units").create()
            self.network.add(cluster.plan.site)
        for cluster in self.clusters.values():
            self._wire(cluster)
            self.allow_node(cluster.plan.node_name, [cluster.plan.site.ip])
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(self._cluster_up, cluster) for cluster in self.clusters.values()]:
                done.result()
        self._start_approver()
        self._hand_out()
        (self.folder / _COMPLETE).touch()

    def _cluster_up(self, cluster: LabCluster) -> None:
        cluster.up()
        if self.settings.kwok and cluster is not self.consumer:
            cluster.add_fake_nodes(self.settings.kwok)

    def _wire(self, cluster: LabCluster) -> None:
        """Routes of one cluster: its Services, its pods' way out, and in a flat network the other clusters' pods."""
        plan = cluster.plan
        others = [other.plan for other in self.clusters.values() if other is not cluster]
        self.network.route(plan.site, plan.service_cidr)
        if not self.settings.nodes:
            return
        flat = others if self.settings.flat else []
        self.network.masquerade(plan.site, plan.pod_cidr, keep=[other.pod_cidr for other in flat])
        for other in flat:
            self.network.route(plan.site, other.pod_cidr, via=other.site)

    def _start_approver(self) -> None:
        group = f"{cgroups.TOP}/{self.name}/hosts"
        cgroups.Group(group).create()
        argv = [sys.executable, "-m", "deploy.lab", "approver"]
        env = {"LAB_NAME": self.name, "PYTHONPATH": str(paths.ROOT)}
        Unit(UnitSpec(name="approver", argv=argv, netns="", group=group, env=env), self.folder / "units").start()

    def _hand_out(self) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        lines = [f"LAB_NAME={self.name}", f"PATH={self.consumer.plan.binaries}:$PATH"]
        for name, cluster in self.clusters.items():
            target = self.output / f"{name}.kubeconfig"
            shutil.copyfile(cluster.admin_kubeconfig, target)
            target.chmod(0o600)
            variable = name.upper().replace("-", "_")
            lines += [f"{variable}_KUBECONFIG={shlex.quote(str(target))}", f"{variable}_API={cluster.url}"]
        lines.append("KUBECONFIG=$CONSUMER_KUBECONFIG")
        (self.output / "env").write_text("".join(f"export {line}\n" for line in lines))

    def _read(self, file: str) -> dict[str, int]:
        try:
            data: dict[str, int] = json.loads((self.folder / file).read_text())
        except FileNotFoundError:
            return {}
        return data

    def _write(self, file: str, data: object) -> None:
        temporary = self.folder / f".{file}"
        temporary.write_text(json.dumps(data))
        temporary.rename(self.folder / file)


def instances() -> list[Lab]:
    """All labs of this machine that stand, whole or half-made."""
    found = []
    for file in sorted(paths.STATE.glob(f"*/{_INSTANCE}")):
        with contextlib.suppress(LabError, ValueError):
            found.append(Lab.open(file.parent.name))
    return found


def names() -> set[str]:
    """Names of all labs of which anything is there: state, or only processes."""
    folders = [*paths.STATE.glob("*/"), *cgroups.Group(cgroups.TOP).folders()[0].glob("*/")]
    return {folder.name for folder in folders}


def _usable(settings: LabSettings) -> Lab | None:
    """The lab if it stands as wanted, None if there is none or only remains; LabError if it stands otherwise."""
    if not (paths.state(settings.name) / _COMPLETE).exists():
        return None
    lab = Lab.open(settings.name)
    units = [(cluster, cluster.unit(name)) for cluster in lab.clusters.values() for name in cluster.unit_names()]
    dead = [f"{unit.spec.name} of {cluster.name}" for cluster, unit in units if not unit.alive]
    if len(dead) == len(units):
        return None
    if dead:
        raise LabError(f"lab {settings.name!r} stands, but without {', '.join(dead)}: start them or take the lab down")
    if lab.settings != settings:
        raise LabError(f"lab {settings.name!r} stands with other settings: take it down first")
    return lab


def remove(name: str) -> None:
    """Remove every process, control group, mount, namespace, link and file of a lab; nothing to do is fine."""
    with locks.hold(f"instance-{name}", waiting=f"another process works on lab {name}, waiting"):
        _remove(name)


def _remove(name: str) -> None:
    with locks.hold(_GLOBAL):
        _remove_unlocked(name)
        if not instances():
            _remove_shared()


def _remove_unlocked(name: str) -> None:
    group = cgroups.Group(f"{cgroups.TOP}/{name}")
    killed = group.kill()
    group.remove()
    subnet = _subnet_of(name)
    Network(name, subnet if subnet is not None else -1).down()
    folder = paths.state(name)
    if folder.exists():
        shutil.rmtree(folder)
    output = paths.output(name)
    for file in [*output.glob("*.kubeconfig"), output / "env"]:
        file.unlink(missing_ok=True)
    for emptied in (output, output.parent):
        with contextlib.suppress(OSError):
            emptied.rmdir()
    if killed:
        say(f"removed lab {name} ({killed} processes)")


def _subnet_of(name: str) -> int | None:
    with contextlib.suppress(LabError, ValueError):
        return Lab.open(name).network.subnet
    return None


def _make_shared(*, nodes: bool) -> None:
    """Make the folders that `ip netns` and nodes mount over, and note which were made."""
    limits.raise_limits(paths.STATE / _LIMITS)
    record = paths.STATE / _SHARED
    made = record.read_text().splitlines() if record.exists() else []
    for folder in (network.NETNS, *(map(Path, node.PRIVATE_FOLDERS) if nodes else ())):
        for part in [*reversed(folder.parents), folder]:
            if not part.exists():
                part.mkdir()
                made.append(str(part))
    record.write_text("".join(f"{line}\n" for line in made))


def _remove_shared() -> None:
    """Remove what all labs of the machine share; only when none stands: another's node may be mounted there."""
    record = paths.STATE / _SHARED
    for line in reversed(record.read_text().splitlines() if record.exists() else []):
        if Path(line) == network.NETNS and not any(network.NETNS.iterdir()):
            # `ip netns add` mounts the folder onto itself.
            run(["umount", line], check=False)
        with contextlib.suppress(OSError):
            Path(line).rmdir()
    record.unlink(missing_ok=True)
    limits.restore_limits(paths.STATE / _LIMITS)
    cgroups.remove_empty_top()
    with contextlib.suppress(OSError):
        paths.STATE.rmdir()
