"""Questions by UDP and TCP through the server to a DNS server that stands for the provider's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import dns.asyncquery
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rrset
import prometheus_client
import pytest

from reflection.dns.names import NameTable
from reflection.dns.server import DnsServer, Upstream

TABLE = NameTable({"shop": "shop-c"}, consumer_domain="cluster.local", provider_domain="cluster.local")
LOCAL = "127.0.0.1"
ZONE = {
    "web.shop-c.svc.cluster.local.": ["A 10.0.0.1"],
    "alias.shop-c.svc.cluster.local.": ["CNAME web.shop-c.svc.cluster.local."],
    "_http._tcp.web.shop-c.svc.cluster.local.": ["SRV 0 100 80 web.shop-c.svc.cluster.local."],
    "1.0.0.10.in-addr.arpa.": ["PTR web.shop-c.svc.cluster.local."],
    "www.example.org.": ["A 203.0.113.1"],
    "many.shop-c.svc.cluster.local.": [f"A 10.0.{high}.{low}" for high in range(4) for low in range(1, 51)],
}


class Zone(asyncio.DatagramProtocol):
    """The provider's DNS."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.silent = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if not self.silent:
            self._transport.sendto(self.answer(data).to_wire(max_size=65535), addr)

    def answer(self, wire: bytes) -> dns.message.Message:
        query = dns.message.from_wire(wire)
        asked = query.question[0]
        self.asked.append(str(asked.name))
        made = dns.message.make_response(query, recursion_available=True)
        records = ZONE.get(str(asked.name).lower())
        if records is None:
            made.set_rcode(dns.rcode.NXDOMAIN)
            return made
        for kind in sorted({text.split()[0] for text in records}):
            texts = [text.partition(" ")[2] for text in records if text.startswith(kind)]
            made.answer.append(dns.rrset.from_text(asked.name, 5, "IN", kind, *texts))
        return made

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2))
        wire = self.answer(await reader.readexactly(length)).to_wire(max_size=65535)
        writer.write(len(wire).to_bytes(2) + wire)
        await writer.drain()
        writer.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOCAL, 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def zone() -> AsyncIterator[tuple[Zone, int]]:
    made, port = Zone(), free_port()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: made, local_addr=(LOCAL, port))
    server = await asyncio.start_server(made.connected, LOCAL, port)
    try:
        yield made, port
    finally:
        transport.close()
        server.close()
        await server.wait_closed()


Asker = Callable[..., Any]


@pytest.fixture
async def world() -> AsyncIterator[tuple[Zone, int]]:
    """The provider's DNS, and the port of ours."""
    async with zone() as (provider, upstream):
        port = free_port()
        server = DnsServer(
            LOCAL,
            port,
            table=lambda: TABLE,
            upstream=Upstream([LOCAL], port=upstream, timeout=0.5),
            registry=prometheus_client.CollectorRegistry(),
        )
        task = asyncio.create_task(server.run())
        await asyncio.wait_for(server.ready(), 10)
        try:
            yield provider, port
        finally:
            task.cancel()
            await asyncio.wait({task})


async def ask(port: int, name: str, kind: str = "A", *, tcp: bool = False, **more: Any) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **more)
    send: Any = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    found: dns.message.Message = await send(query, LOCAL, timeout=10, port=port)
    return found


def texts(found: dns.message.Message) -> list[str]:
    return [line for rrset in found.answer for line in rrset.to_text().splitlines()]


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
async def test_names_of_the_consumer_are_found_under_their_own_name(world: tuple[Zone, int], tcp: bool) -> None:
    provider, port = world
    found = await ask(port, "web.shop.svc.cluster.local", tcp=tcp)
    assert texts(found) == ["web.shop.svc.cluster.local. 5 IN A 10.0.0.1"]
    assert provider.asked == ["web.shop-c.svc.cluster.local."]


@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        (
            "alias.shop.svc.cluster.local",
            "CNAME",
            "alias.shop.svc.cluster.local. 5 IN CNAME web.shop.svc.cluster.local.",
        ),
        (
            "_http._tcp.web.shop.svc.cluster.local",
            "SRV",
            "_http._tcp.web.shop.svc.cluster.local. 5 IN SRV 0 100 80 web.shop.svc.cluster.local.",
        ),
        ("1.0.0.10.in-addr.arpa", "PTR", "1.0.0.10.in-addr.arpa. 5 IN PTR web.shop.svc.cluster.local."),
        ("www.example.org", "A", "www.example.org. 5 IN A 203.0.113.1"),
        ("web.shop-c.svc.cluster.local", "A", "web.shop-c.svc.cluster.local. 5 IN A 10.0.0.1"),
    ],
)
async def test_what_an_answer_names_is_named_as_at_home(
    world: tuple[Zone, int], name: str, kind: str, answer: str
) -> None:
    assert texts(await ask(world[1], name, kind)) == [answer]


async def test_a_namespace_that_is_not_here_does_not_exist_whatever_the_provider_has(world: tuple[Zone, int]) -> None:
    provider, port = world
    found = await ask(port, "kubernetes.default.svc.cluster.local")
    assert found.rcode() == dns.rcode.NXDOMAIN
    assert str(found.authority[0].name) == "cluster.local."
    assert provider.asked == []


async def test_the_case_of_a_question_comes_back(world: tuple[Zone, int]) -> None:
    """Resolvers mix it to tell forged answers (draft-vixie-dnsext-dns0x20)."""
    found = await ask(world[1], "wEb.ShOp.svc.cluster.local")
    assert str(found.question[0].name) == "wEb.ShOp.svc.cluster.local."
    assert str(found.answer[0].name) == "wEb.ShOp.svc.cluster.local."


async def test_a_large_answer_is_cut_for_a_datagram_and_whole_by_tcp(world: tuple[Zone, int]) -> None:
    port = world[1]
    cut = await ask(port, "many.shop.svc.cluster.local")
    assert cut.flags & dns.flags.TC
    whole = await ask(port, "many.shop.svc.cluster.local", tcp=True)
    assert len(texts(whole)) == 200


async def test_a_silent_provider_is_a_failure_and_the_server_goes_on(world: tuple[Zone, int]) -> None:
    provider, port = world
    provider.silent = True
    assert (await ask(port, "web.shop.svc.cluster.local")).rcode() == dns.rcode.SERVFAIL
    provider.silent = False
    assert (await ask(port, "web.shop.svc.cluster.local")).rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"x",
        b"\xff" * 600,
        bytes(12),
        dns.message.make_response(dns.message.make_query("a.b", "A", id=1)).to_wire(),
    ],
)
async def test_what_is_no_question_is_not_answered(world: tuple[Zone, int], wire: bytes) -> None:
    port = world[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(wire, (LOCAL, port))
    assert texts(await ask(port, "web.shop.svc.cluster.local"))


async def test_zone_transfers_and_updates_are_refused(world: tuple[Zone, int]) -> None:
    port = world[1]
    query = dns.message.make_query("cluster.local", "A")
    query.set_opcode(dns.opcode.NOTIFY)
    assert (await dns.asyncquery.udp(query, LOCAL, timeout=10, port=port)).rcode() == dns.rcode.NOTIMP
    transfer = dns.message.from_wire(dns.message.make_query("cluster.local", "AXFR").to_wire())
    assert (await dns.asyncquery.tcp(transfer, LOCAL, timeout=10, port=port)).rcode() == dns.rcode.REFUSED
