"""The small part of WebSocket (RFC 6455) that reading a command's output needs; pure.

Kubernetes' channel protocols v4 and v5: every binary message starts with a byte naming the channel: 1 is stdout, 2
stderr, 3 the final metav1.Status. We send nothing but the closing frame.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from typing import Final

STDOUT: Final = 1
STDERR: Final = 2
STATUS: Final = 3
PROTOCOLS: Final = "v5.channel.k8s.io, v4.channel.k8s.io"

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_KNOWN: Final = frozenset({_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG})


class FramingError(ValueError):
    """What came is no WebSocket frame of a server, or a longer one than is taken."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Frame:
    final: bool
    opcode: int
    payload: bytes


class ChannelReader:
    """Turns the bytes of a server into (channel, data). `closed` once a closing frame has come."""

    def __init__(self, *, max_message: int = 4 * 1024 * 1024) -> None:
        self._max_message = max_message
        self._buffer = bytearray()
        self._message = bytearray()
        self._fragmented = False
        self.closed = False

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Take bytes in; gives the messages they complete. Raises FramingError."""
        self._buffer += data
        while not self.closed and (frame := self._next_frame()) is not None:
            message = self._join(frame)
            if message:
                yield message[0], message[1:]

    def _join(self, frame: _Frame) -> bytes | None:
        """A complete message, or None for control frames and fragments."""
        if frame.opcode == _CLOSE:
            self.closed = True
            return None
        if frame.opcode in (_PING, _PONG):
            return None
        if (frame.opcode == _CONTINUATION) != self._fragmented:
            raise FramingError("fragments out of order")
        if len(self._message) + len(frame.payload) > self._max_message:
            raise FramingError("message too long")
        self._message += frame.payload
        self._fragmented = not frame.final
        if self._fragmented:
            return None
        message, self._message = bytes(self._message), bytearray()
        return message

    def _next_frame(self) -> _Frame | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        opcode, length, start = buffer[0] & 0x0F, buffer[1] & 0x7F, 2
        if buffer[0] & 0x70 or buffer[1] & 0x80 or opcode not in _KNOWN:
            raise FramingError("not a frame that a server sends")
        extra = {126: 2, 127: 8}.get(length, 0)
        if len(buffer) < start + extra:
            return None
        if extra:
            length = int.from_bytes(buffer[start : start + extra], "big")
            start += extra
        if length > self._max_message:
            raise FramingError("frame too long")
        if len(buffer) < start + length:
            return None
        frame = _Frame(bool(buffer[0] & 0x80), opcode, bytes(buffer[start : start + length]))
        del buffer[: start + length]
        return frame


def closing_frame() -> bytes:
    """A masked close frame with code 1000, as a client sends it."""
    mask = os.urandom(4)
    payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate((1000).to_bytes(2, "big")))
    return bytes((0x80 | _CLOSE, 0x80 | len(payload))) + mask + payload
