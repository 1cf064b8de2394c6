"""The lab's own network: a namespace with a bridge (the switch), one namespace per site, and one link to the machine.

Everything is in namespaces that the lab made: the machine itself gets a single veth with the address 198.18.N.1/24,
by which kubectl and tests reach the clusters; its routes, firewall and forwarding stay as they are. All traffic between
sites passes the switch, so a link is cut there, by one nftables rule on the pair of ports.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.lab.console import run
from deploy.lab.errors import LabError

NETNS = Path("/run/netns")
ROOT_SITE = "root"
_FAULTS = """
table bridge faults {
    set cut { type ifname . ifname; }
    chain forward {
        type filter hook forward priority 0; policy accept;
        iifname . oifname @cut drop
    }
}
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A place on the lab's network with one address: a cluster, a host, or the machine itself (`root`)."""

    name: str
    netns: str
    """Name of the network namespace; empty for the machine itself."""
    ip: str

    @property
    def netns_path(self) -> Path:
        """The file that holds the namespace."""
        return NETNS / self.netns

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """The command line that runs `argv` in the site's network.

        By nsenter, not `ip netns exec`: the latter mounts /sys anew and hides the control groups from a kubelet.
        """
        words = [str(part) for part in argv]
        return ["nsenter", f"--net={self.netns_path}", "--", *words] if self.netns else words

    def run(self, argv: Sequence[str | Path], *, stdin: str | None = None) -> str:
        """Run a short program in the site's network."""
        return run(self.command(argv), stdin=stdin)


@dataclass(frozen=True, slots=True)
class Network:
    """The network of one instance: subnet 198.18.`subnet`.0/24."""

    lab: str
    subnet: int

    @property
    def prefix(self) -> str:
        """All namespaces of the instance begin so; an instance's name has no dot."""
        return f"isthmus.{self.lab}."

    @property
    def switch(self) -> str:
        """The namespace with the bridge."""
        return f"{self.prefix}switch"

    @property
    def link(self) -> str:
        """The machine's end of its link to the switch."""
        return f"isthmus-{self.subnet}"

    @property
    def root(self) -> Site:
        """The machine itself, as a site."""
        return Site(ROOT_SITE, "", self.address(1))

    def address(self, host: int) -> str:
        """An address of the instance's subnet."""
        return f"198.18.{self.subnet}.{host}"

    def site(self, name: str, *, host: int) -> Site:
        """Name a site; it exists after `add`."""
        if len(name) > 15 or name in (ROOT_SITE, "switch"):
            raise LabError(f"site name {name!r}: at most 15 letters, and not one of the lab's own")
        return Site(name, f"{self.prefix}{name}", self.address(host))

    def up(self) -> None:
        """Make the switch and the machine's link to it."""
        run(["ip", "netns", "add", self.switch])
        _batch(
            self.switch,
            "link set lo up",
            "link add br0 type bridge forward_delay 0 stp_state 0",
            "link set br0 up",
        )
        run(["ip", "link", "add", self.link, "type", "veth", "peer", "name", ROOT_SITE, "netns", self.switch])
        _batch(self.switch, f"link set {ROOT_SITE} master br0 up")
        run(["ip", "address", "add", f"{self.root.ip}/24", "dev", self.link])
        run(["ip", "link", "set", self.link, "up"])
        self._switch_run(["nft", "-f", "-"], stdin=_FAULTS)

    def add(self, site: Site) -> None:
        """Make a site's namespace and plug it into the switch; IPv4 forwarding is on inside it, for its pods."""
        run(["ip", "netns", "add", site.netns])
        _batch(
            self.switch,
            f"link add {site.name} type veth peer name eth0 netns {site.netns}",
            f"link set {site.name} master br0 up",
        )
        _batch(
            site.netns,
            "link set lo up",
            f"address add {site.ip}/24 dev eth0",
            "link set eth0 up",
        )
        site.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])

    def route(self, site: Site, cidr: str, *, via: Site | None = None) -> None:
        """Route `cidr` at `site`, to another site or (for addresses that are rewritten on the way) to its own link."""
        target = ["via", via.ip] if via else ["dev", "eth0"]
        run(["ip", "-n", site.netns, "route", "replace", cidr, *target])

    def masquerade(self, site: Site, source: str, *, keep: Iterable[str]) -> None:
        """Let pods of `source` leave under the site's address, except towards the networks in `keep`."""
        kept = ", ".join([source, *keep])
        site.run(
            ["nft", "-f", "-"],
            stdin=f"""
table ip isthmus-lab {{
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {source} ip daddr != {{ {kept} }} oifname "eth0" masquerade
    }}
}}
""",
        )

    def cut(self, source: str, target: str) -> None:
        """Drop every frame from the site `source` to the site `target`."""
        self._switch_run(["nft", "add", "element", "bridge", "faults", "cut", f'{{ "{source}" . "{target}" }}'])

    def mend(self, source: str, target: str) -> None:
        """Undo `cut`; LabError if the link was not cut."""
        self._switch_run(["nft", "delete", "element", "bridge", "faults", "cut", f'{{ "{source}" . "{target}" }}'])

    def mend_all(self) -> None:
        """Undo every cut."""
        self._switch_run(["nft", "flush", "set", "bridge", "faults", "cut"])

    def down(self) -> None:
        """Remove all namespaces and the machine's link; what does not exist is not missed."""
        run(["ip", "link", "del", self.link], check=False)
        for path in self.namespaces():
            run(["ip", "netns", "del", path.name], check=False)
            # Left over when `ip netns add` was interrupted between making the file and mounting the namespace.
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def namespaces(self) -> list[Path]:
        """The files of the instance's namespaces, by the beginning of their names."""
        if not NETNS.exists():
            return []
        return [path for path in NETNS.iterdir() if path.name.startswith(self.prefix)]

    def _switch_run(self, argv: Sequence[str], *, stdin: str | None = None) -> None:
        Site("switch", self.switch, "").run(argv, stdin=stdin)


def links() -> set[str]:
    """Names of the machine's own links."""
    return {path.name for path in Path("/sys/class/net").iterdir()}


def _batch(netns: str, *commands: str) -> None:
    run(["ip", "-n", netns, "-batch", "-"], stdin="\n".join(commands) + "\n")
