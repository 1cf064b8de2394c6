"""What a Node says of the network to its provider's pods."""

import pytest

from vk.node.datapath import BROKEN, FULL_SIZE_LOST, DataPath, Path, Report, judge


def path(address: str = "10.1.0.0", *, settled: bool = True, passing: bool = True, large: bool = True) -> Path:
    return Path(address=address, settled=settled, passing=passing, full_size_lost=not large)


FINDING_OUT = path(settled=False, passing=False)
GONE, SMALL = path(passing=False), path(large=False)


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (Report(paths=(path(), path("fd00::"))), ("False", "PathPasses")),
        (Report(paths=(GONE,)), ("True", BROKEN)),
        (Report(paths=(path(), path("fd00::", passing=False))), ("True", BROKEN)),
        (Report(paths=(SMALL,)), ("True", FULL_SIZE_LOST)),
        (Report(paths=(SMALL, GONE)), ("True", BROKEN)),
        (Report(paths=(FINDING_OUT, GONE)), ("True", BROKEN)),
        (Report(paths=(FINDING_OUT, path())), None),
        (Report(), None),
        (Report(reason="ProbeSilent", message="m"), ("Unknown", "ProbeSilent")),
    ],
    ids=["all pass", "broken", "one family", "large", "the worst", "enough is known", "not yet", "nothing", "silent"],
)
def test_the_condition(report: Report, expected: tuple[str, str] | None) -> None:
    made = judge(report, provider="north")
    assert (None if made is None else (made.type, made.status, made.reason, made.normal)) == (
        None if expected is None else ("NetworkUnavailable", *expected, "False")
    )


def test_who_is_not_reached_is_named() -> None:
    made = judge(Report(paths=(path(), path("fd00::", passing=False))), provider="north")
    assert made is not None
    assert "fd00::" in made.message
    assert "10.1.0.0" not in made.message
    assert "north" in made.message


def test_ready_falls_only_where_nothing_passes() -> None:
    made, said = DataPath(provider="north"), dict[str, bool]()
    assert not made.verdict
    for report in (
        Report(paths=(path(),)),
        Report(paths=(SMALL,)),
        Report(reason="X", message="m"),
        Report(paths=(GONE,)),
    ):
        made.tell(report)
        known = made.verdict
        assert known is not None
        said[known.reason] = known.ok
    assert said == {"PathPasses": True, FULL_SIZE_LOST: True, "X": True, BROKEN: False}


def test_listeners_hear_of_changes_and_what_is_not_known_changes_nothing() -> None:
    made, heard = DataPath(provider="north"), list[object]()
    made.changed.subscribe(lambda: heard.append(made.condition and made.condition.reason))
    for paths in ((path(),), (path(),), (FINDING_OUT,), (), (GONE,), (FINDING_OUT,), (path(),)):
        made.tell(Report(paths=paths))
    assert heard == ["PathPasses", BROKEN, "PathPasses"]
