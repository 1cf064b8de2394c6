"""What the kernel says of a far end that answers nothing, and that sockets are as before afterwards."""

import asyncio
import socket

from vk.server import stalls


def test_repetitions_are_read_from_tcp_info() -> None:
    assert stalls.unanswered(bytes([1, 0, 9, 0, 0, 0, 0, 0])) == 9
    assert stalls.unanswered(bytes([1, 0, 0, 8, 0, 0, 0, 0])) == 8


async def test_a_socket_is_as_before_when_the_stream_is_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, *listening.getsockname())
        ours = transport.get_extra_info("socket")
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000)
        with stalls.borne(transport):
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
        transport.abort()


async def test_a_transport_without_tcp_is_borne_too() -> None:
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
    with stalls.borne(transport):
        pass
    transport.abort()
    theirs.close()


async def test_what_a_reader_has_not_taken_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, *listening.getsockname())
        reader, _ = listening.accept()
    transport.write(bytes(8_000_000))
    waiting = asyncio.create_task(stalls.taken([transport], gone=None, timeout=60))
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    await asyncio.to_thread(_read, reader, 8_000_000)
    await asyncio.wait_for(waiting, 10)
    transport.abort()
    reader.close()


def _read(reader: socket.socket, size: int) -> None:
    while size > 0:
        size -= len(reader.recv(65536))
