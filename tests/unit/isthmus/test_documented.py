"""Whoever reads a metric at 3 am finds it in docs/operations.md."""

import re

import pytest

from deploy.lab.paths import ROOT

PARTS = ("identity", "isthmus", "kube", "netfabric", "reflection", "vk")
_MADE = re.compile(r'(?:Counter|Gauge|Histogram|Summary|MetricFamily)\(\s*"([a-z_]+)"')


def _metrics() -> set[str]:
    sources = (file.read_text() for part in PARTS for file in (ROOT / part).rglob("*.py"))
    return {name for source in sources for name in _MADE.findall(source)}


@pytest.mark.parametrize("name", sorted(_metrics()))
def test_a_metric_is_documented(name: str) -> None:
    table = (ROOT / "docs" / "operations.md").read_text()
    assert re.search(rf"\b{name}(_total)?\b", table), f"{name} is not in docs/operations.md"
