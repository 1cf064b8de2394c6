"""Rights that the provider takes away and gives back."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from kube.client import Client
from tests.unit.vk_node.fakeapi import FakeApi, refusal, serving
from tests.unit.vk_node.tasks import running, until
from vk.node import access
from vk.node.access import ProviderAccess

_REVIEW = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1"}


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[tuple[FakeApi, Client]]:
    async with serving(tmp_path) as pair:
        yield pair


async def test_f16_revoked_rights_are_told_and_their_return_too(
    fake: tuple[FakeApi, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    api, client = fake
    monkeypatch.setattr(access, "PERIOD_SECONDS", 0.02)
    answers = web.json_response
    allowed = True

    def review(_request: web.Request) -> web.Response:
        return answers({**_REVIEW, "status": {"allowed": allowed}}, status=201)

    api.fault = review
    rights = ProviderAccess(client, namespaces=lambda: ["b", "a"])

    def status() -> str:
        return rights.condition.status if rights.condition else ""

    async with running(rights.run):
        await until(lambda: status() == "True")
        allowed = False
        await until(lambda: status() == "False")
        assert rights.condition is not None
        assert rights.condition.reason == "Forbidden"
        assert "a, b" in rights.condition.message
        api.fault = lambda _request: refusal(401, "Unauthorized")
        seen = len(api.requests)
        await until(lambda: len(api.requests) > seen + 2)
        assert status() == "False", "what is known stays while nothing can be asked"
        allowed = True
        api.fault = review
        await until(lambda: status() == "True")


async def test_f16_the_right_to_make_namespaces_is_asked_for_where_it_is_needed(
    fake: tuple[FakeApi, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    api, client = fake
    monkeypatch.setattr(access, "PERIOD_SECONDS", 0.02)
    refused = "namespaces"

    asks = itertools.cycle(["pods", "namespaces"])

    def review(_request: web.Request) -> web.Response:
        asked = next(asks)
        return web.json_response({**_REVIEW, "status": {"allowed": asked != refused}}, status=201)

    api.fault = review
    rights = ProviderAccess(client, namespaces=lambda: ["a"], makes_namespaces=True)

    def reason() -> str:
        return rights.condition.reason if rights.condition else ""

    async with running(rights.run):
        await until(lambda: reason() == "NamespacesForbidden")
        refused = "pods"
        await until(lambda: reason() == "Forbidden")
        refused = ""
        await until(lambda: reason() == "Allowed")
