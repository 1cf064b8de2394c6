"""What is told to WireGuard, by which programs; `wg` is a stub."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from netfabric.agent import programs, reading
from netfabric.agent.model import Link
from netfabric.agent.tunnels import WireGuardTunnel
from netfabric.agent.wireguard import Endpoint
from tests.unit.netfabric.agent.states import KEY, PUBLIC, gateway

OLD, NEW = (ip_address("10.0.2.7"), 51820), (ip_address("10.0.2.8"), 51820)


class Wg:
    """Remembers what it was asked, and answers as if `names` were there."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ("wg-b", "wg-c", "somebodys")
        self.asked: list[str] = []
        self.told = ""

    async def run(self, argv: Sequence[str], *, stdin: str = "", reason: str) -> str:
        self.asked.append(" ".join(argv))
        self.told = stdin
        if argv[1] != "show":
            return ""
        private, public = (base64.b64encode(key).decode() for key in (KEY, PUBLIC))
        peer = f"{public}\t(none)\t{OLD[0]}:{OLD[1]}\t10.244.0.0/16,fd24::/48,169.254.18.2/32\t1\t2\t3\t20"
        lines = (f"{private}\tpublic\t51820\toff", peer)
        names = [f"{name}\t" for name in self.names] if argv[2] == "all" else [""]
        return "".join(f"{name}{line}\n" for name in names for line in lines)


@pytest.fixture
def wg(monkeypatch: pytest.MonkeyPatch) -> Wg:
    made = Wg()
    monkeypatch.setattr(programs, "run", made.run)
    return made


def tunnel(*found: Endpoint) -> WireGuardTunnel:
    async def resolve(_host: str, _port: int) -> list[Endpoint]:
        return list(found)

    return WireGuardTunnel(resolve)


def link() -> Link:
    return reading.read(gateway()).links[0]


async def test_one_program_reads_all_links_for_a_pass_and_the_report_after_it(wg: Wg) -> None:
    made, links = tunnel(OLD), {"wg-b", "wg-c"}
    await made.read(links)
    assert not await made.configure(link())
    await made.read(links, seconds=60)
    assert wg.asked == ["wg show all dump"]
    assert made.reports.keys() == links
    await made.read({"wg-b"}, seconds=60)
    assert made.reports.keys() == {"wg-b"}, "the others are gone"
    await made.read({"wg-b"})
    assert wg.asked == ["wg show all dump"] * 3
    await made.read(set())
    assert (made.reports, len(wg.asked)) == ({}, 3)


@pytest.mark.parametrize(("now", "told"), [(OLD, False), (NEW, True)], ids=["same", "moved"])
async def test_a_redial_forgets_the_session_and_nothing_else(wg: Wg, now: Endpoint, *, told: bool) -> None:
    made = tunnel(now)
    assert await made.redial(link(), await made.resolve(link()))
    assert wg.asked == ["wg show wg-b dump", "wg set wg-b private-key /dev/null", "wg syncconf wg-b /dev/stdin"]
    assert f"PrivateKey = {base64.b64encode(KEY).decode()}" in wg.told
    assert "ListenPort = 51820" in wg.told
    assert (f"Endpoint = {NEW[0]}" in wg.told) == told


async def test_a_link_that_somebody_changed_is_not_dialled_but_put_right(wg: Wg) -> None:
    made, state = tunnel(OLD), gateway()
    state.links[0].wireguard.peers[0].keepalive_seconds = 5
    assert not await made.redial(reading.read(state).links[0], {})
    assert wg.asked == ["wg show wg-b dump"]
