"""Reading AdmissionReviews that may be anything, and answering them."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflection.scheduling import review

Json = dict[str, Any]


def body(**changes: Any) -> Json:
    """A review as an API server sends it; `changes` replace parts of its request."""
    request: Json = {
        "uid": "u1",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "shop",
        "operation": "CREATE",
        "userInfo": {"username": "someone"},
        "object": {"metadata": {}, "spec": {}},
        "oldObject": None,
        "dryRun": False,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {**request, **changes}}


def test_a_review_is_read() -> None:
    request = review.read(json.dumps(body()).encode())

    assert (request.uid, request.namespace, request.object) == ("u1", "shop", {"metadata": {}, "spec": {}})


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b'{"apiVersion":' + b"[" * 100_000,
        json.dumps({**body(), "apiVersion": "admission.k8s.io/v1beta1"}).encode(),
        json.dumps({**body(), "kind": "Pod"}).encode(),
        json.dumps(body(uid="")).encode(),
        json.dumps(body(uid=7)).encode(),
        json.dumps(body(object=None)).encode(),
        json.dumps(body(object="text")).encode(),
        json.dumps(body(operation="UPDATE")).encode(),
        json.dumps(body(subResource="exec")).encode(),
        json.dumps(body(kind={"group": "apps", "version": "v1", "kind": "Pod"})).encode(),
    ],
)
def test_what_is_no_review_of_a_pod_is_refused(text: bytes) -> None:
    with pytest.raises(review.MalformedError):
        review.read(text)


@given(st.binary() | st.recursive(st.none() | st.text(), lambda inner: st.dictionaries(st.text(), inner)).map(repr))
def test_no_bytes_make_it_fail_otherwise(text: bytes | str) -> None:
    with pytest.raises(review.MalformedError):
        review.read(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))


def test_an_answer_always_allows() -> None:
    answer = json.loads(review.answer("u1"))

    assert answer == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u1", "allowed": True},
    }


def test_an_answer_carries_patch_and_short_warnings() -> None:
    patch = [{"op": "add", "path": "/spec/tolerations", "value": []}]

    response = json.loads(review.answer("u1", patch=patch, warnings=["bad\x1b[31m " + "x" * 300]))["response"]

    assert json.loads(base64.b64decode(response["patch"])) == patch
    assert response["patchType"] == "JSONPatch"
    (warning,) = response["warnings"]
    assert len(warning) == review.WARNING_LIMIT
    assert warning.isprintable()
