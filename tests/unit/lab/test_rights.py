"""The page of rights is what the roles say."""

from deploy import rights


def test_the_page_is_up_to_date() -> None:
    assert rights.PAGE.read_text() == rights.page(), "run python -m deploy.rights"


def test_no_consumer_writes_pods_roles_or_nodes_nor_reads_secrets_outside_of_what_was_made_for_it() -> None:
    own = rights.of("provider", "consumer", rights.TENANT)
    mapped = rights.of("provider", "consumer", rights.MAPPED)
    assert not {right for right in own if right[1] in ("secrets", "pods", "serviceaccounts", "serviceaccounts/token")}
    assert {verb for _, resource, _, verb in mapped if resource == "pods"} == {"get", "list", "watch"}
    assert not {
        right for right in own | mapped if right[0].startswith("rbac.") or "*" in (right[0], right[1], right[3])
    }
