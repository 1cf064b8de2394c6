"""AdmissionReview (admission.k8s.io/v1) as bytes in and out. Pure.

An answer here always allows: a webhook that prepares pods has no reason to stop one.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final

import msgspec

API_VERSION: Final = "admission.k8s.io/v1"
WARNING_LIMIT: Final = 120
"""Characters of a warning; API servers cut longer ones (k8s.io/api/admission/v1, AdmissionResponse.warnings)."""


class MalformedError(ValueError):
    """What came is no AdmissionReview about a pod."""


class _Kind(msgspec.Struct, frozen=True):
    group: str = ""
    version: str = ""
    kind: str = ""


class Request(msgspec.Struct, frozen=True, rename="camel"):
    """What an API server asks. `object` is the pod as it is to be created."""

    uid: str
    kind: _Kind
    operation: str
    object: dict[str, Any]
    namespace: str = ""
    dry_run: bool | None = None
    sub_resource: str = ""


class _Review(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    request: Request


_DECODER: Final = msgspec.json.Decoder(_Review)


def read(body: bytes) -> Request:
    """The question in a review about the creation of a pod. Raises `MalformedError`."""
    try:
        review = _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(str(error)) from error
    request = review.request
    if (review.api_version, review.kind) != (API_VERSION, "AdmissionReview"):
        raise MalformedError(f"an AdmissionReview of {API_VERSION} is wanted")
    if not request.uid:
        raise MalformedError("request.uid is empty")
    asked = (request.kind.group, request.kind.version, request.kind.kind, request.operation, request.sub_resource)
    if asked != ("", "v1", "Pod", "CREATE", ""):
        raise MalformedError("only the creation of v1 pods is looked at")
    return request


def answer(uid: str, *, patch: Sequence[dict[str, Any]] = (), warnings: Sequence[str] = ()) -> bytes:
    """Allow, with what to change and what to tell the user."""
    response: dict[str, Any] = {"uid": uid, "allowed": True}
    if patch:
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(msgspec.json.encode(patch)).decode()}
    if warnings:
        response["warnings"] = [_shown(text) for text in warnings]
    return msgspec.json.encode({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response})


def _shown(text: str) -> str:
    plain = "".join(char if char.isprintable() else "?" for char in text)
    return plain if len(plain) <= WARNING_LIMIT else plain[: WARNING_LIMIT - 3] + "..."
