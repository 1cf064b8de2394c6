"""What the audit policy records."""

from __future__ import annotations

import pytest

from deploy.lab.components.control_plane import audit_policy
from deploy.lab.settings import AUDIT_LEVELS


@pytest.mark.parametrize("level", AUDIT_LEVELS)
def test_secret_bodies_are_never_recorded(level: str) -> None:
    rules = audit_policy(level)["rules"]
    if level == "None":
        assert rules == [{"level": "None"}]
        return
    body = {"group": "", "resources": ["secrets", "serviceaccounts/token"]}
    (secrets,) = [i for i, rule in enumerate(rules) if body in rule.get("resources", [])]
    assert rules[secrets]["level"] == "Metadata"
    assert secrets < len(rules) - 1
    assert rules[-1] == {"level": level}
