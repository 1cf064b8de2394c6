"""Whether a terminated container may run again: a status that says otherwise is refused by the API server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reflection.forge.model import Json

MayRestart = Callable[[str, Json, int], bool]
"""(the pod's restartPolicy, the container, exit code) -> may it run again?"""


def _main_may_restart(policy: str, container: Json, code: int) -> bool:
    """Follow ContainerShouldRestart, pkg/api/v1/pod: the container's rules, then its policy, then the pod's."""
    own = container.get("restartPolicy")
    if own and any(_rule_matches(rule, code) for rule in container.get("restartPolicyRules") or ()):
        return True
    decisive = own or policy
    return decisive == "Always" or (decisive == "OnFailure" and code != 0)


def _rule_matches(rule: Json, code: int) -> bool:
    codes = rule.get("exitCodes") or {}
    listed = code in (codes.get("values") or ())
    return rule.get("action") == "Restart" and listed == (codes.get("operator") == "In") and bool(codes)


def _init_may_restart(policy: str, container: Json, code: int) -> bool:
    return policy == "Always" or (policy == "OnFailure" and code != 0) or container.get("restartPolicy") == "Always"


def _never_restarts(_policy: str, _container: Json, _code: int) -> bool:
    return False


KINDS: Final[tuple[tuple[str, str, MayRestart], ...]] = (
    ("containers", "containerStatuses", _main_may_restart),
    ("initContainers", "initContainerStatuses", _init_may_restart),
    ("ephemeralContainers", "ephemeralContainerStatuses", _never_restarts),
)
"""Spec list, status list, and whether validation lets a terminated container of it run again."""
