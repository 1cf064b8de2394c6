"""Controller and agents prove themselves to each other: the agents' real server, by TLS, and the fabric's authority."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from netfabric._pb import fabric_pb2 as pb
from netfabric.agent.credentials import TlsFiles
from netfabric.agent.service import FabricServer
from netfabric.controller import certificates
from netfabric.controller.agents import AgentConnection, Rhythm
from netfabric.controller.authority import Credential
from netfabric.controller.certificates import CONTROLLER, NAMES, Lifetimes
from netfabric.controller.facts import Agent

NOW = datetime.now(UTC)
LIFETIMES = Lifetimes()
AUTHORITY = certificates.advance((), now=NOW, lifetimes=LIFETIMES)
STRANGER = certificates.advance((), now=NOW, lifetimes=LIFETIMES)
GATEWAY = Agent(name="gw-0", role="gateway", address="127.0.0.1")


class Told:
    """An agent that only remembers."""

    def __init__(self) -> None:
        self.states_given: list[pb.DesiredState] = []

    async def apply(self, message: pb.DesiredState) -> pb.AppliedState:
        self.states_given.append(message)
        return pb.AppliedState(term=message.term, generation=message.generation)

    async def states(self, *, interval: float) -> AsyncIterator[pb.AgentState]:
        while True:
            state = pb.AgentState(contract=1, agent="gw-0", role=pb.ROLE_GATEWAY, capabilities=["vxlan"])
            if self.states_given:
                last = self.states_given[-1]
                state.applied.CopyFrom(pb.AppliedState(term=last.term, generation=last.generation))
            yield state
            await asyncio.sleep(0.05)


def credential(name: str, *, authorities: certificates.Authorities = AUTHORITY) -> Credential:
    made = certificates.encode(certificates.issue(authorities[0], name, now=NOW, lifetimes=LIFETIMES), AUTHORITY)
    return Credential(made[certificates.CA], made[certificates.CERTIFICATE], made[certificates.KEY])


@asynccontextmanager
async def served(agent: Told, folder: Path, *, name: str = NAMES["gateway"]) -> AsyncIterator[str]:
    """Where the agents' server listens with a certificate of this name."""
    shown = credential(name)
    for file, content in (("crt", shown.certificate), ("key", shown.key), ("ca", shown.ca)):
        (folder / file).write_bytes(content)
    tls = TlsFiles(certificate=folder / "crt", key=folder / "key", client_ca=folder / "ca", client_names=(CONTROLLER,))
    given: Any = agent
    server = FabricServer(given, listen="127.0.0.1:0", tls=tls)
    running = asyncio.ensure_future(server.run())
    try:
        await server.ready()
        yield f"127.0.0.1:{server.port}"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def connected(target: str, shown: Credential) -> AsyncIterator[AgentConnection]:
    made = AgentConnection(
        GATEWAY,
        target=target,
        credential=lambda: shown,
        changed=lambda _: None,
        slots=asyncio.Semaphore(1),
        rhythm=Rhythm(1, 10.0),
    )
    made.want(pb.DesiredState(contract=1, agent="gw-0", role=pb.ROLE_GATEWAY), term=3)
    running = asyncio.ensure_future(made.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(holds: Any) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what holds has no event
            await asyncio.sleep(0.02)


async def test_the_controller_is_let_in_and_its_state_applied(tmp_path: Path) -> None:
    agent = Told()
    async with served(agent, tmp_path) as target, connected(target, credential(CONTROLLER)) as made:
        await until(lambda: made.connected and made.current)
        assert made.capabilities == {"vxlan"}
        await until(lambda: [(one.term, one.generation) for one in agent.states_given] == [(3, 1)])
        made.want(pb.DesiredState(contract=1, agent="gw-0", role=pb.ROLE_GATEWAY), term=3)
        made.want(pb.DesiredState(contract=1, agent="gw-0", role=pb.ROLE_GATEWAY, standby=True), term=3)
        await until(lambda: len(agent.states_given) == 2)
        assert (agent.states_given[-1].generation, agent.states_given[-1].standby) == (2, True)


async def test_another_process_of_the_same_term_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    agent = Told()
    agent.states_given.append(pb.DesiredState(term=3, generation=41))
    async with served(agent, tmp_path) as target, connected(target, credential(CONTROLLER)) as made:
        await until(lambda: made.current and len(agent.states_given) == 2)
        assert agent.states_given[-1].generation == 42


@pytest.mark.parametrize("name", [NAMES["gateway"], NAMES["node"]])
async def test_a40_an_agents_certificate_does_not_command_agents(tmp_path: Path, name: str) -> None:
    agent = Told()
    async with served(agent, tmp_path) as target, connected(target, credential(name)) as made:
        await until(lambda: made.problem)
        assert not made.connected
    assert not agent.states_given


async def test_a40_a_stranger_does_not_command_agents(tmp_path: Path) -> None:
    agent = Told()
    shown = credential(CONTROLLER, authorities=STRANGER)
    async with served(agent, tmp_path) as target, connected(target, shown) as made:
        await until(lambda: made.problem)
    assert not agent.states_given


async def test_a40_what_runs_on_a_node_does_not_pass_for_a_gateway(tmp_path: Path) -> None:
    """Else it would be sent private keys."""
    agent = Told()
    async with (
        served(agent, tmp_path, name=NAMES["node"]) as target,
        connected(target, credential(CONTROLLER)) as made,
    ):
        await until(lambda: made.problem)
        assert not made.connected
    assert not agent.states_given


def test_authorities_overlap_so_that_nobody_meets_one_that_he_does_not_know() -> None:
    known, now = AUTHORITY, NOW
    signers = []
    for _ in range(3 * 730):
        now += timedelta(days=1)
        before = known
        known = certificates.advance(known, now=now, lifetimes=LIFETIMES)
        by = certificates.signer(known, now=now, lifetimes=LIFETIMES)
        assert by in before, "an authority is known for a day before it signs"
        assert by.certificate.not_valid_after_utc - now > LIFETIMES.certificate
        signers.append(by.certificate.serial_number)
    assert len(set(signers)) > 3


def test_secrets_are_read_as_they_were_written() -> None:
    both = (*STRANGER, *AUTHORITY)
    assert certificates.decode_authorities(certificates.encode_authorities(both)) == both
    pair = certificates.issue(AUTHORITY[0], CONTROLLER, now=NOW, lifetimes=LIFETIMES)
    encoded = certificates.encode(pair, both)
    assert certificates.decode(encoded) == pair
    with pytest.raises(certificates.MaterialError):
        certificates.decode({**encoded, certificates.KEY: b"-----BEGIN"})
    assert "PRIVATE" not in repr(pair)


async def until_there(found: Callable[[], list[asyncio.Task[Any]]]) -> list[asyncio.Task[Any]]:
    """Looked for at every turn of the loop, for what may be over at the next."""
    async with asyncio.timeout(20):
        while not (tasks := found()):  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0)
    return tasks


@pytest.mark.parametrize("turns", range(6))
async def test_a_connection_is_let_go_also_while_it_fails(tmp_path: Path, turns: int) -> None:
    connection = AgentConnection(
        GATEWAY,
        target=f"unix:{tmp_path}/nobody",
        credential=lambda: None,
        changed=lambda _: None,
        slots=asyncio.Semaphore(1),
    )
    before = asyncio.all_tasks()
    running = asyncio.ensure_future(connection.run())
    (read,) = await until_there(lambda: [t for t in asyncio.all_tasks() - before if "._read " in str(t.get_coro())])
    await asyncio.wait({read}, timeout=20)
    assert read.done()
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait({running}, timeout=2)
    ended = running.done()
    running.cancel()
    assert ended, "the cancellation was lost"
