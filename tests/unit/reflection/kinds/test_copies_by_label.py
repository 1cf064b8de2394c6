"""ConfigMaps, Secrets and ServiceAccounts."""

from __future__ import annotations

import pytest

from reflection.copies import TOKEN_TYPES
from reflection.kinds import configmap, secret, serviceaccount
from reflection.kinds.model import Refusal
from tests.unit.reflection.kinds.contexts import Json, context, copy, document


@pytest.mark.parametrize("kind", sorted(TOKEN_TYPES))
def test_a24_credentials_of_a_cluster_stay_there(kind: str) -> None:
    refused = secret.forge(document(type=kind, data={"token": "eA=="}), context())
    assert isinstance(refused, Refusal)
    assert "eA==" not in refused.message


def test_a_secret_keeps_its_type_and_an_untyped_one_is_opaque() -> None:
    assert (
        copy(secret.forge(document(type="kubernetes.io/tls", data={}), context())).parts["type"] == "kubernetes.io/tls"
    )
    assert copy(secret.forge(document(), context())).parts == {"type": "Opaque", "data": {}}


def test_the_root_ca_of_the_consumer_does_not_replace_the_providers() -> None:
    assert isinstance(configmap.forge(document("kube-root-ca.crt", data={}), context()), Refusal)


IMMUTABLE = {"immutable": True}


@pytest.mark.parametrize(
    ("wanted", "current", "again"),
    [
        ({"data": {"a": "1"}}, {"data": {"a": "2"}}, False),
        ({"data": {"a": "1"}, **IMMUTABLE}, {"data": {"a": "2"}}, False),
        ({"data": {"a": "1"}, **IMMUTABLE}, {"data": {"a": "1"}, **IMMUTABLE}, False),
        ({"data": {"a": "1"}, **IMMUTABLE}, {"data": {"a": "2"}, **IMMUTABLE}, True),
        ({"data": {"a": "1"}}, {"data": {"a": "1"}, **IMMUTABLE}, True),
    ],
)
def test_immutable_copies_are_made_anew_when_they_have_to_change(wanted: Json, current: Json, again: bool) -> None:
    assert configmap.recreate(wanted, current) is again
    assert secret.recreate({"type": "Opaque", **wanted}, current) is again


def test_a_secret_of_another_type_is_made_anew() -> None:
    assert secret.recreate({"type": "Opaque", "data": {}}, {"type": "kubernetes.io/tls", "data": {}})


def test_service_accounts_bring_no_rights() -> None:
    local = document("sa", annotations={"eks.amazonaws.com/role-arn": "x"}, secrets=[{"name": "t"}])
    made = copy(serviceaccount.forge(local, context()))
    assert (made.parts, made.annotations) == ({"automountServiceAccountToken": False}, {})
    assert serviceaccount.forge(document("default"), context()) is None
