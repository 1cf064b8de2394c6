"""What a credential can do, as an API server sees it; `deploy.rights` says what it should."""

import json

from deploy import rights
from tests.kubectl import Kubectl


def can(kubectl: Kubectl, *flags: str) -> set[rights.Right]:
    """All that a credential (`flags` may name another) may do by roles in its namespace (SelfSubjectRulesReview)."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": kubectl.namespace},
    }
    text = kubectl.run("create", "--validate=false", "-o", "json", "-f", "-", *flags, stdin=json.dumps(review))
    status = json.loads(text)["status"]
    return rights.rights([*status["resourceRules"], *status["nonResourceRules"]])
