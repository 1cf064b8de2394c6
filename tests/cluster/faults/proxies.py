"""Spoiling proxies for tests that are not asynchronous: their event loop runs in a thread of its own."""

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeVar

from deploy import stack
from deploy.lab.lab import Lab
from deploy.lab.proxy.rules import Action, Event, Rule
from deploy.lab.proxy.server import ApiProxy, Record
from deploy.lab.relay import Relay

T = TypeVar("T")
_START = 60.0


class Proxy:
    """An ApiProxy whose loop runs elsewhere; its rules and records may be used from any thread."""

    def __init__(self, proxy: ApiProxy, loop: asyncio.AbstractEventLoop) -> None:
        self._proxy = proxy
        self._loop = loop

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._proxy.url

    @property
    def records(self) -> list[Record]:
        """Every request so far."""
        return list(self._proxy.records)

    def add(self, action: Action, *, times: int | None = None, **matching: Any) -> Rule:
        """See ApiProxy."""
        return self._proxy.add(action, times=times, **matching)

    def remove(self, rule: Rule) -> None:
        """See ApiProxy."""
        self._proxy.remove(rule)

    def clear(self) -> None:
        """See ApiProxy."""
        self._proxy.clear()

    def seen(self, *, path: str, verb: str = "", since: int = 0) -> list[Record]:
        """Requests from the record `since` on, by a regular expression for the path."""
        return [
            record
            for record in self.records[since:]
            if re.search(path, record.request.path) and verb in ("", record.request.verb)
        ]

    def inject(self, event: Event, *, path: str) -> int:
        """See ApiProxy."""
        return self._call(lambda: self._proxy.inject(event, path=path))

    def break_watches(self, *, path: str = "") -> int:
        """See ApiProxy."""
        return self._call(lambda: self._proxy.break_watches(path=path))

    def watches(self, *, path: str) -> int:
        """See ApiProxy."""
        return self._call(lambda: self._proxy.watches(path=path))

    def _call(self, function: Callable[[], T]) -> T:
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(function())
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(_START)


@contextmanager
def running(lab: Lab, *, node: str, consumer_id: str, delay: float) -> Iterator[tuple[Proxy, Proxy, Relay]]:
    """Proxies before consumer and provider, as the virtual node's identities, and a slow way to the provider."""

    async def made(held: AsyncExitStack) -> tuple[ApiProxy, ApiProxy, Relay]:
        user = f"system:node:{node}"
        consumer = await held.enter_async_context(ApiProxy.running(lab.consumer, user=user, groups=("system:nodes",)))
        provider = await held.enter_async_context(ApiProxy.running(lab.provider, user=stack.provider_user(consumer_id)))
        address = (lab.provider.plan.site.ip, 6443)
        relay = await held.enter_async_context(Relay.running(address, host=lab.network.root.ip, delay=delay))
        return consumer, provider, relay

    with _elsewhere(made) as ((consumer, provider, relay), loop):
        yield Proxy(consumer, loop), Proxy(provider, loop), relay


@contextmanager
def before_provider(lab: Lab, *, user: str) -> Iterator[Proxy]:
    """One proxy before the provider, as this user."""

    async def made(held: AsyncExitStack) -> ApiProxy:
        return await held.enter_async_context(ApiProxy.running(lab.provider, user=user))

    with _elsewhere(made) as (proxy, loop):
        yield Proxy(proxy, loop)


@contextmanager
def _elsewhere(make: Callable[[AsyncExitStack], Awaitable[T]]) -> Iterator[tuple[T, asyncio.AbstractEventLoop]]:
    """What `make` opens, in a loop of a thread of its own for the time of the block."""
    ready: Future[tuple[T, asyncio.AbstractEventLoop]] = Future()
    ending: list[Callable[[], object]] = []

    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        ending.append(lambda: loop.call_soon_threadsafe(stop.set))
        async with AsyncExitStack() as held:
            ready.set_result((await make(held), loop))
            await stop.wait()

    def work() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    thread = threading.Thread(target=work, name="proxies")
    thread.start()
    try:
        yield ready.result(_START)
    finally:
        for end in ending:
            end()
        thread.join(_START)
