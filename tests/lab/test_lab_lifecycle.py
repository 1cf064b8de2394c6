"""Labs come and go without a trace, beside each other, and even when they were killed half-made."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.lab import lab as labs
from deploy.lab import paths, testing
from deploy.lab.errors import LabError
from deploy.lab.lab import Lab
from deploy.lab.network import links
from deploy.lab.process import wait_until
from deploy.lab.settings import LabSettings


@dataclass(frozen=True)
class Trace:
    """What a lab could leave on the machine."""

    links: frozenset[str]
    mounts: frozenset[str]
    files: frozenset[str]
    processes: frozenset[str]

    @classmethod
    def of(cls, name: str) -> Trace:
        """Now; of things that bear labs' names only those of the lab `name`, others come and go as they like."""
        present = [link for link in links() if link.startswith("isthmus-")]
        standing = [lab for lab in labs.instances() if lab.name != name]
        others, theirs = {lab.name for lab in standing}, {lab.network.link for lab in standing}
        skip = {f"isthmus.{other}." for other in others} | {f"isthmus-lab/{other}" for other in others}

        def mine(text: str) -> bool:
            return not any(part in text for part in skip)

        mounts = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
        folders = (Path("/run/netns"), paths.STATE, Path("/var/lib/cni"), Path("/var/log"), Path("/run/containerd"))
        files = (str(p) for folder in folders if folder.exists() for p in folder.iterdir())
        # Not glob: others' folders go meanwhile, which os.walk passes over.
        groups = (folder for folder, _, _ in os.walk("/sys/fs/cgroup") if "isthmus" in folder)
        return cls(
            frozenset(link for link in present if link not in theirs),
            frozenset(filter(mine, mounts)),
            frozenset(filter(mine, (*files, *groups))),
            frozenset(command for command in _commands() if f"/{name}/" in command or f".{name}." in command),
        )


def assert_as(before: Trace, name: str) -> None:
    """The machine is as it was; other labs that come or go at this very moment may take a second look."""
    with contextlib.suppress(LabError):
        wait_until(lambda: Trace.of(name) == before, what="the same traces", timeout=30)
    assert Trace.of(name) == before


def _commands() -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def test_a_lab_leaves_nothing_behind(lab: Lab) -> None:
    name = f"test-{os.getpid()}-1"
    before = Trace.of(name)
    with testing.temporary(LabSettings(kwok=1, providers=2), number=1) as second:
        assert second.network.subnet != lab.network.subnet
        assert [cluster.node_ready() for cluster in second.clusters.values()] == [True] * 3
        during = Trace.of(name)
        assert second.network.link in during.links
        assert during.processes
        pod = {"containers": [{"name": "c", "image": "isthmus.dev/lab/agnhost:latest", "imagePullPolicy": "Never"}]}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": pod}
        second.consumer.api.apply(manifest)
        second.consumer.kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=60s", timeout=70)
        assert all(cluster.api.ready() for cluster in lab.clusters.values())
    assert_as(before, name)
    assert not paths.output(name).exists()
    assert all(cluster.node_ready() for cluster in lab.clusters.values())
    second.down()


def test_a_lab_killed_half_made_is_cleared() -> None:
    name = f"test-{os.getpid()}-2"
    before = Trace.of(name)
    environment = {**os.environ, "LAB_NAME": name}
    argv = [sys.executable, "-m", "deploy.lab", "up"]
    with subprocess.Popen(argv, cwd=paths.ROOT, env=environment, stderr=subprocess.DEVNULL) as up:
        pidfile = paths.state(name) / "consumer" / "units" / "kube-apiserver.pid"
        wait_until(pidfile.exists, what="an API server to be started", timeout=60)
        up.send_signal(signal.SIGKILL)
    assert Trace.of(name).processes
    settings = LabSettings(name=name, nodes=0)
    assert Lab.up(settings).consumer.api.ready()
    assert Lab.up(settings).consumer.api.ready()
    with pytest.raises(LabError, match="other settings"):
        Lab.up(LabSettings(name=name))
    for _ in range(2):
        subprocess.run([sys.executable, "-m", "deploy.lab", "down"], cwd=paths.ROOT, env=environment, check=True)
        assert_as(before, name)


def test_pods_of_a_flat_lab_meet_by_address() -> None:
    with testing.temporary(LabSettings(flat=True), number=3) as flat:
        for name, cluster in flat.clusters.items():
            container = {
                "name": "c",
                "image": "isthmus.dev/lab/agnhost:latest",
                "imagePullPolicy": "Never",
                "args": ["netexec"],
            }
            manifest = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"containers": [container]},
            }
            cluster.api.apply(manifest)
        addresses = {}
        for name, cluster in flat.clusters.items():
            cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s", timeout=70)
            pod = cluster.api.request("GET", f"/api/v1/namespaces/default/pods/{name}")
            addresses[name] = pod["status"]["podIP"]
        url = f"http://{addresses['provider']}:8080/clientip"
        seen = flat.consumer.kubectl("exec", "consumer", "--", "wget", "-qO-", url)
    assert seen.partition(":")[0] == addresses["consumer"]
