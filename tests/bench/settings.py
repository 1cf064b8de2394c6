"""What a run measures, from the BENCH_* environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PARTS = ("burst", "latency", "idle", "restart", "kinds", "fleet", "peers", "flood", "streams", "fabric")
ASKED = ("fabric-guest", "fabric-uml")
"""Parts that are measured only if they are asked for."""


class SettingsError(ValueError):
    """A BENCH_* variable can't be used; the text says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """One run's shape."""

    parts: tuple[str, ...] = PARTS
    """BENCH_PARTS: what is measured, in this order."""
    counts: tuple[int, ...] = (10, 100, 1000)
    """BENCH_N: pods of each burst."""
    rounds: int = 3
    """BENCH_ROUNDS: how often each burst is measured, direct and isthmus in turn."""
    pods: int = 1000
    """BENCH_PODS: pods that are there during latency, idle and restart."""
    concurrency: int = 32
    """BENCH_CONCURRENCY: requests in flight while pods are created and deleted."""
    idle_seconds: float = 60.0
    """BENCH_IDLE_SECONDS: how long an idle process is watched."""
    samples: int = 20
    """BENCH_SAMPLES: status changes whose way back is timed."""
    objects: int = 50
    """BENCH_OBJECTS: objects of each reflected kind."""
    rate: int = 100
    """BENCH_RATE: changes a second under load."""
    load_seconds: int = 5
    """BENCH_LOAD_SECONDS: how long the load on each kind lasts, in each round."""
    nodes: int = 10
    """BENCH_NODES: virtual nodes of one provider."""
    namespaces: int = 100
    """BENCH_NAMESPACES: namespaces that are offloaded to them."""
    peers: tuple[int, ...] = (1, 10, 50)
    """BENCH_PEERS: consumers that peer with one provider at once."""
    megabytes: int = 100
    """BENCH_MB: size of what is streamed."""
    fabric_seconds: int = 3
    """BENCH_FABRIC_SECONDS: length of a stream from pod to pod."""
    exchanges: int = 1000
    """BENCH_EXCHANGES: small requests from pod to pod, each with its answer."""
    fabric_peers: tuple[int, ...] = (1, 10, 100)
    """BENCH_FABRIC_PEERS: clusters that the fabric's agents are told of."""
    fabric_nodes: int = 100
    """BENCH_FABRIC_NODES: this cluster's nodes meanwhile."""
    addresses: int = 10_000
    """BENCH_ADDRESSES: remapped addresses at one gateway."""

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> BenchSettings:
        """Read BENCH_*; absent or empty means the default. Raises `SettingsError`."""
        default = cls()
        wanted = [part.strip() for part in env.get("BENCH_PARTS", "").split(",") if part.strip()] or list(PARTS)
        known = (*PARTS, *ASKED)
        if unknown := set(wanted) - set(known):
            raise SettingsError(f"BENCH_PARTS: {', '.join(sorted(unknown))}: known are {', '.join(known)}")
        return cls(
            parts=tuple(part for part in known if part in wanted),
            counts=_numbers(env, "BENCH_N") or default.counts,
            rounds=_number(env, "BENCH_ROUNDS", default.rounds),
            pods=_number(env, "BENCH_PODS", default.pods),
            concurrency=_number(env, "BENCH_CONCURRENCY", default.concurrency),
            idle_seconds=float(_number(env, "BENCH_IDLE_SECONDS", int(default.idle_seconds))),
            samples=_number(env, "BENCH_SAMPLES", default.samples),
            objects=_number(env, "BENCH_OBJECTS", default.objects),
            rate=_number(env, "BENCH_RATE", default.rate),
            load_seconds=_number(env, "BENCH_LOAD_SECONDS", default.load_seconds),
            nodes=_number(env, "BENCH_NODES", default.nodes),
            namespaces=_number(env, "BENCH_NAMESPACES", default.namespaces),
            peers=_numbers(env, "BENCH_PEERS") or default.peers,
            megabytes=_number(env, "BENCH_MB", default.megabytes),
            fabric_seconds=_number(env, "BENCH_FABRIC_SECONDS", default.fabric_seconds),
            exchanges=_number(env, "BENCH_EXCHANGES", default.exchanges),
            fabric_peers=_numbers(env, "BENCH_FABRIC_PEERS") or default.fabric_peers,
            fabric_nodes=_number(env, "BENCH_FABRIC_NODES", default.fabric_nodes),
            addresses=_number(env, "BENCH_ADDRESSES", default.addresses),
        )


def _number(env: Mapping[str, str], key: str, default: int) -> int:
    return _positive(key, text) if (text := env.get(key, "")) else default


def _numbers(env: Mapping[str, str], key: str) -> tuple[int, ...]:
    return tuple(_positive(key, text) for text in env.get(key, "").replace(",", " ").split())


def _positive(key: str, text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise SettingsError(f"{key}={text!r} is not a positive number")
    return int(text)
