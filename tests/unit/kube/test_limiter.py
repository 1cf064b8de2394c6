import asyncio

import pytest

from kube.backoff import Backoff, between, jittered
from kube.limiter import AdaptiveLimiter
from tests.unit.kube.fakeapi import until


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_grows_only_while_it_is_what_holds_back() -> None:
    limiter = AdaptiveLimiter(start=4, maximum=6)
    for _ in range(100):
        limiter.observe(200, 0.01)
    assert limiter.limit == 4
    async with asyncio.TaskGroup() as group:
        for _ in range(200):
            group.create_task(_request(limiter))
    assert limiter.limit == 6
    assert limiter.in_flight == 0


async def _request(limiter: AdaptiveLimiter) -> None:
    async with limiter:
        assert limiter.in_flight <= limiter.limit
        await asyncio.sleep(0)
        limiter.observe(200, 0.01)


@pytest.mark.parametrize(("status", "latency"), [(429, 0.01), (503, 0.01), (200, 5.0)])
async def test_shrinks_on_congestion_once_a_second(status: int, latency: float) -> None:
    clock = Clock()
    limiter = AdaptiveLimiter(start=100, clock=clock)
    for _ in range(10):
        limiter.observe(status, latency)
    assert limiter.limit == 70
    for _ in range(50):
        clock.now += 1
        limiter.observe(status, latency)
    assert limiter.limit == 1


async def test_waiters_are_served_in_order_and_cancelled_ones_keep_no_slot() -> None:
    limiter = AdaptiveLimiter(start=1)
    order: list[int] = []
    release = asyncio.Event()

    async def hold(number: int) -> None:
        async with limiter:
            order.append(number)
            await release.wait()

    tasks = [asyncio.create_task(hold(number)) for number in range(5)]
    await until(lambda: order == [0])
    tasks[1].cancel()
    release.set()
    await asyncio.wait(tasks)
    assert order == [0, 2, 3, 4]
    assert limiter.in_flight == 0


async def test_a_waiter_cancelled_when_the_slot_is_just_its_own_hands_it_on() -> None:
    limiter = AdaptiveLimiter(start=1)

    async def request() -> None:
        async with limiter:
            pass

    async with asyncio.TaskGroup() as group:
        async with limiter:
            first = group.create_task(request())
            second = group.create_task(request())
            await asyncio.sleep(0)
        first.cancel()
    assert first.cancelled()
    assert not second.cancelled()
    assert limiter.in_flight == 0


async def test_f15_nothing_starts_before_retry_after() -> None:
    loop = asyncio.get_running_loop()
    limiter = AdaptiveLimiter()
    limiter.observe(429, 0.01, retry_after=0.2)
    began = loop.time()
    async with limiter:
        assert loop.time() - began >= 0.19


async def test_f15_the_pause_has_a_bound() -> None:
    clock = Clock()
    limiter = AdaptiveLimiter(clock=clock)
    limiter.observe(429, 0.01, retry_after=100_000.0)
    clock.now += 31
    async with asyncio.timeout(20), limiter:
        pass


def test_wrong_bounds() -> None:
    with pytest.raises(ValueError, match="minimum"):
        AdaptiveLimiter(start=300)


def test_backoff_grows_to_its_bound_with_jitter_and_is_reset() -> None:
    backoff = Backoff(base=0.1, maximum=1.0, rng=lambda: 1.0)
    assert [backoff.next() for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    backoff.reset()
    assert backoff.next() == pytest.approx(0.1)
    for _ in range(5000):
        backoff.next()
    assert jittered(1.0, rng=lambda: 0.0) == 0.5
    assert 2.0 <= between(2.0, 3.0) <= 3.0
    assert len({jittered(1.0) for _ in range(10)}) > 1
