"""Fixtures of the library's tests: a fake API server, a client of it, and a watch over blocking calls."""

import gc
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from blockbuster import blockbuster_ctx
from prometheus_client import CollectorRegistry

from kube.client import Client
from tests.unit.kube import fakeapi
from tests.unit.kube.fakeapi import FakeApi


@pytest.fixture(scope="module", autouse=True)
def _others_are_gone() -> None:
    """What other tests left may wait for a thread when it is collected, as gRPC's channels do: not in one of these."""
    gc.collect()


@pytest.fixture(autouse=True)
def _nothing_blocks() -> Iterator[None]:
    """Fail a test in which the library blocks the event loop on files, sockets or sleeps."""
    with blockbuster_ctx(scanned_modules=["kube"]):
        yield


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with fakeapi.serving() as served:
        yield served


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest_asyncio.fixture
async def client(api: FakeApi, registry: CollectorRegistry) -> AsyncIterator[Client]:
    async with Client.connect(fakeapi.credentials(api.url), name="test", registry=registry) as connected:
        yield connected
