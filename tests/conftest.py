"""What holds for every test: an asynchronous one leaves no task behind; what shares a lab is run by one process.

One that fails is reported with what isthmus's programs in its lab wrote.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Generator, Iterable
from pathlib import Path

import pytest
import pytest_asyncio
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests import programs

_GRACE = 0.5
_WHOLE = ("tests/cluster/", "tests/lab/application/")
"""Below these, folders have labs of their own."""
_HALF = ("test_both", "test_crowd", "test_joining", "test_life", "test_renewal")
"""Files of tests/cluster/identity that go to another process than the rest: each of its tests waits for namespaces to
go, 5 s at the least, and one process for all would be the last to end by far."""
_LONG = (
    "tests/lab/application",
    "tests/lab/test_managed.py",
    "tests/cluster/faults",
    "tests/cluster/identity/second",
    "tests/cluster/identity/first",
    "tests/cluster/managed",
)
"""What is given out first: all have something to do until the end."""
_LOGS = pytest.StashKey[dict[Path, int]]()


@pytest_asyncio.fixture
async def no_tasks_left() -> AsyncIterator[None]:
    """Fail a test whose tasks, or those of its fixtures, are still there half a second after it."""
    before = asyncio.all_tasks()
    yield
    mine = asyncio.current_task()
    left = {task for task in asyncio.all_tasks() if task not in before and task is not mine}
    if left:
        # A task that was told to stop may need a turn or two.
        _, left = await asyncio.wait(left, timeout=_GRACE)
    names = sorted(f"{task.get_name()}: {task.get_coro()}" for task in left)
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_GRACE)
        pytest.fail("tasks left behind: " + "; ".join(names))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the check around every asynchronous test, outside of its other fixtures."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.fixturenames.insert(0, "no_tasks_left")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remember how far the programs' logs go."""
    item.stash[_LOGS] = programs.sizes()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what they wrote since, if the test failed."""
    report = yield
    if report.failed:
        for program, text in programs.written_since(item.stash.get(_LOGS, {})):
            report.sections.append((f"written by {program}", text))
    return report


def place(nodeid: str) -> str:
    """What one process has to run as a whole: a file, or a folder that has a lab of its own."""
    file = nodeid.partition("::")[0]
    folder, _, name = file.rpartition("/")
    if folder == "tests/cluster/identity":
        return f"{folder}/{'first' if name.removesuffix('.py') in _HALF else 'second'}"
    return folder if f"{folder}/".startswith(_WHOLE) and folder != "tests/cluster" else file


def chosen(waiting: Iterable[str]) -> str:
    """Which place is given out next; there is one at the least."""
    return min(waiting, key=lambda one: _LONG.index(one) if one in _LONG else len(_LONG))


class ByPlace(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives out whole places, long ones first."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        self.workqueue.move_to_end(chosen(self.workqueue), last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        return place(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """For `--dist loadgroup`; what xdist itself does by this name needs a mark at every test."""
    return ByPlace(config, log) if config.getvalue("dist") == "loadgroup" else None
