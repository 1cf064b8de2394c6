"""How the words of `kubectl delete` are read."""

from collections.abc import Sequence

import pytest

from tests.reading import Deletion, NotUnderstoodError, deletion


def test_words_and_flags() -> None:
    assert deletion(["pod", "a", "b"]) == Deletion("pod", ("a", "b"), {})
    assert deletion(["pod", "a", "--wait=false"]) == Deletion("pod", ("a",), {}, wait=False)
    assert deletion(["node", "n", "--ignore-not-found"]) == Deletion("node", ("n",), {}, ignore_not_found=True)
    assert deletion(["--namespace=x", "pod", "a"]) == Deletion("pod", ("a",), {}, namespace="x")


@pytest.mark.parametrize(
    ("flags", "seconds"),
    [(["--grace-period=7"], 7), (["--force"], 0), (["--force", "--grace-period=0"], 0), (["--grace-period=0"], 1)],
)
def test_grace_is_kubectls(flags: Sequence[str], seconds: int) -> None:
    assert deletion(["pod", "a", *flags]).options == {"gracePeriodSeconds": seconds}


@pytest.mark.parametrize(
    "words", ["pods --all", "pod -l a=b", "-f file", "pod/a", "pod,job a", "pod", "pod a --cascade=orphan"]
)
def test_the_rest_is_left_to_kubectl(words: str) -> None:
    with pytest.raises(NotUnderstoodError):
        deletion(words.split())
