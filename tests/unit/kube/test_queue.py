import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kube.queue import LAST_RETRY, Priority, WorkQueue
from tests.unit.kube.fakeapi import until

KEYS = st.sampled_from("abcdef")
DELAYS = st.sampled_from([0.0, 0.0, 1.0, 3.0, 10.0])
PRIORITIES = st.sampled_from(list(Priority))


@dataclass
class Planned:
    due: float
    priority: Priority
    order: int


class QueueMachine(RuleBasedStateMachine):
    """The queue against a model that keeps a plain dict of plans and looks for the best with a linear search."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.queue: WorkQueue[str] = WorkQueue(clock=lambda: self.now, rng=lambda: 1.0)
        self.planned: dict[str, Planned] = {}
        self.again: dict[str, tuple[float, Priority]] = {}
        self.working: set[str] = set()
        self.order = 0

    def _plan(self, key: str, due: float, priority: Priority) -> None:
        self.order += 1
        self.planned[key] = Planned(due, priority, self.order)

    def _add(self, key: str, due: float, priority: Priority) -> None:
        if key in self.working:
            known = self.again.get(key, (due, priority))
            self.again[key] = (min(due, known[0]), min(priority, known[1]))
        elif key not in self.planned:
            self._plan(key, due, priority)
        else:
            old = self.planned[key]
            if due < old.due or priority < old.priority:
                self._plan(key, min(due, old.due), min(priority, old.priority))

    @rule(key=KEYS, delay=DELAYS, priority=PRIORITIES)
    def add(self, key: str, delay: float, priority: Priority) -> None:
        self.queue.add(key, delay=delay, priority=priority)
        self._add(key, self.now + delay, priority)

    @rule(key=KEYS)
    def retry(self, key: str) -> None:
        delay = self.queue.retry(key)
        assert 0 < delay <= LAST_RETRY
        self._add(key, self.now + delay, Priority.FRESH)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def take(self) -> None:
        ready = [key for key, plan in self.planned.items() if plan.due <= self.now]
        key = self.queue._take()
        if not ready:
            assert key is None
            return
        assert key in ready
        best = min(self.planned[each].priority for each in ready)
        assert self.planned[key].priority == best
        assert key not in self.working
        assert self.queue.waited(key) == self.now - self.planned[key].due
        del self.planned[key]
        self.working.add(key)

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.working)))
        self.queue.done(key)
        self.working.remove(key)
        if key in self.again:
            self._plan(key, *self.again.pop(key))

    @rule(key=KEYS)
    def forget(self, key: str) -> None:
        self.queue.forget(key)

    @invariant()
    def counts_agree(self) -> None:
        ready = sum(1 for plan in self.planned.values() if plan.due <= self.now)
        assert self.queue.statistics() == (ready, len(self.planned) - ready, len(self.working))
        assert len(self.queue) == len(self.planned)


QueueMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestQueue = QueueMachine.TestCase


async def test_a_waiting_get_is_woken_by_an_add() -> None:
    queue: WorkQueue[str] = WorkQueue()
    getter = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    assert await asyncio.wait_for(getter, 20) == "a"


async def test_a_waiting_get_is_woken_when_a_delay_ends_and_by_an_earlier_plan() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("late", delay=0.05)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await asyncio.wait_for(queue.get(), 20) == "late"
    assert loop.time() - began >= 0.045
    queue.add("b", delay=60)
    getter = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("b", delay=0)
    assert await asyncio.wait_for(getter, 20) == "b"


async def test_no_key_is_lost_when_getters_are_cancelled() -> None:
    queue: WorkQueue[int] = WorkQueue()
    found: list[int] = []

    async def work() -> None:
        while True:
            found.append(await queue.get())

    workers = [asyncio.create_task(work()) for _ in range(5)]
    await asyncio.sleep(0)
    for number in range(100):
        queue.add(number)
        if number % 25 == 0:
            workers.pop().cancel()
            await asyncio.sleep(0)
    await until(lambda: len(found) == 100)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    assert sorted(found) == list(range(100))


async def test_the_backoff_of_a_key_grows_has_a_bound_and_is_forgotten() -> None:
    queue: WorkQueue[str] = WorkQueue(rng=lambda: 1.0)
    delays = [queue.retry("a") for _ in range(15)]
    assert delays[:4] == pytest.approx([0.05, 0.1, 0.2, 0.4])
    assert delays[-1] == LAST_RETRY
    queue.forget("a")
    assert queue.retry("a") == pytest.approx(0.05)


async def test_fresh_keys_go_before_the_initial_list() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for number in range(1000):
        queue.add(f"old{number}", priority=Priority.INITIAL)
    queue.add("new")
    queue.add("old500")
    assert [await queue.get() for _ in range(3)] == ["new", "old500", "old0"]


async def test_a29_who_adds_many_keys_does_not_hold_up_the_others() -> None:
    queue: WorkQueue[tuple[str, int]] = WorkQueue(flow=lambda key: key[0])
    for number in range(1000):
        queue.add(("flood", number))
    assert [await queue.get() for _ in range(100)] == [("flood", number) for number in range(100)]
    for number in range(3):
        queue.add(("one", number))
    queue.add(("other", 0))
    found = [await queue.get() for _ in range(7)]
    assert [key for key in found if key[0] != "flood"] == [("one", 0), ("other", 0), ("one", 1), ("one", 2)]
    assert [key[1] for key in found if key[0] == "flood"] == [100, 101, 102], "and is not held up itself"


async def test_turns_hold_within_a_priority_and_end_with_the_wait() -> None:
    queue: WorkQueue[str] = WorkQueue(flow=lambda key: key[0])
    for key in ("a1", "a2", "b1"):
        queue.add(key, priority=Priority.INITIAL)
    queue.add("a3")
    assert [await queue.get() for _ in range(4)] == ["a3", "a1", "b1", "a2"]
    getter = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    for key in ("a4", "c1"):
        queue.add(key)
    assert [await getter, await queue.get()] == ["a4", "c1"], "what a flow had before is not held against it"
