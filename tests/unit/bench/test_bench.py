from collections import Counter

import pytest

from tests.bench import counters
from tests.bench.changes import Marks, percentile
from tests.bench.counters import Counts, Meter
from tests.bench.report import Report, spread
from tests.bench.settings import PARTS, BenchSettings, SettingsError

METRICS = """# HELP apiserver_request_total Counter of requests.
apiserver_request_total{code="201",resource="pods",subresource="",verb="POST"} 7
apiserver_request_total{code="200",resource="pods",subresource="status",verb="PATCH"} 1e+01
apiserver_request_total_other{verb="POST"} 9
apiserver_request_duration_seconds{verb="POST"} 3
"""


def counts(cpu: int, requests: dict[str, int]) -> Counts:
    return Counts(Counter({"virtual-kubelet": cpu}), {"consumer": Counter(requests)}, {"provider": Counter(requests)})


def test_samples_are_those_of_exactly_this_metric() -> None:
    found = [(labels["verb"], value) for labels, value in counters._samples(METRICS, "apiserver_request_total")]
    assert found == [("POST", 7.0), ("PATCH", 10.0)]


def test_the_difference_of_two_counts_is_what_was_added() -> None:
    spent = counts(50, {"create pods": 9, "list pods": 2}).since(counts(20, {"create pods": 4, "list pods": 2}))
    assert spent.cpu == {"virtual-kubelet": 30}
    assert spent.own == {"provider": {"create pods": 5}}


def test_watches_do_not_count_as_requests() -> None:
    assert counts(0, {"post pods": 3, "watch pods": 9, "connect pods/exec": 1}).requests("consumer") == 3


@pytest.mark.parametrize(("key", "write"), [("create pods", True), ("patch pods", True), ("list pods", False)])
def test_writes_are_told_from_reads(key: str, write: bool) -> None:
    assert Meter.is_write(key) is write


def test_a_row_has_medians_ranges_and_their_ratio() -> None:
    report = Report()
    report.add("what", [2.0, 1.0, 4.0], [5.0, 3.0, 9.0], digits=1)
    report.add("own", [], [1.0])
    assert report.rows == [("what", "2.0 [1.0-4.0]", "5.0 [3.0-9.0]", "2.50"), ("own", "-", "1.00", "")]
    assert spread([], 1) == "-"


def test_settings_from_the_environment() -> None:
    chosen = BenchSettings.from_env({"BENCH_N": "10, 5000", "BENCH_PARTS": "restart,burst", "BENCH_ROUNDS": "1"})
    assert chosen.counts == (10, 5000)
    assert chosen.parts == ("burst", "restart")
    assert chosen.rounds == 1
    assert BenchSettings.from_env({}).parts == PARTS
    asked = BenchSettings.from_env({"BENCH_PARTS": "fabric-uml,fabric-guest,fabric"})
    assert asked.parts == ("fabric", "fabric-guest", "fabric-uml"), "only if it is asked for"


@pytest.mark.parametrize("env", [{"BENCH_N": "0"}, {"BENCH_N": "ten"}, {"BENCH_ROUNDS": "-1"}, {"BENCH_PARTS": "all"}])
def test_nonsense_is_refused_by_name(env: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(env))):
        BenchSettings.from_env(env)


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile([7.0], 0.99)) == (50.0, 99.0, 7.0)


def test_a_mark_that_was_overtaken_counts_as_shown_with_the_later_one() -> None:
    marks = Marks(shown={"one": [(1, 10.0), (4, 20.0)]})
    assert [marks.when("one", mark) for mark in (1, 2, 4, 5)] == [10.0, 20.0, 20.0, None]
