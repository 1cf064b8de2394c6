"""Whether pods here reach pods at the provider, and what the Node says of it.

Someone else measures (`isthmus.datapath`, by a probe in this process's own pod) and tells reports; here they become the
condition NetworkUnavailable, which keeps new pods away by the taint that Kubernetes makes of it, and a part of Ready.
Ready falls only where nothing passes at all: pods whose small packets pass are better kept than evicted. What is not
known is no reason for either.
"""

from dataclasses import dataclass

import structlog

from api.offloading.common import PATH_BROKEN
from vk.node.signals import Condition, Notifier, Verdict

TYPE = "NetworkUnavailable"
BROKEN = PATH_BROKEN
"""The reason of NetworkUnavailable, and of Ready, where nothing passes."""
FULL_SIZE_LOST = "FullSizePacketsLost"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """A way to the provider's pods as measured; what is not `settled` is still being found out."""

    address: str
    """Who was asked."""
    settled: bool
    passing: bool
    full_size_lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is known now: paths, or why there is nothing to know."""

    paths: tuple[Path, ...] = ()
    reason: str = ""
    """One word in CamelCase; empty: paths are measured."""
    message: str = ""


class DataPath:
    """A condition and a readiness probe for `NodeController`."""

    def __init__(self, *, provider: str) -> None:
        self.changed = Notifier()
        self._provider = provider
        self._condition: Condition | None = None

    @property
    def condition(self) -> Condition | None:
        """NetworkUnavailable; None as long as nothing is known: what the Node shows of a run before this one stays."""
        return self._condition

    @property
    def verdict(self) -> Verdict | None:
        """Whether Ready may be."""
        known = self._condition
        if known is None:
            return None
        broken = known.status == "True" and known.reason == BROKEN
        return Verdict(ok=not broken, reason=known.reason, message=known.message)

    def tell(self, report: Report) -> None:
        """Take what is known now; listeners hear of it if the Node has to say something else."""
        made = judge(report, provider=self._provider)
        if made is None or made == self._condition:
            return
        log = _log.info if made.status == "False" else _log.warning
        log("data_path_changed", unavailable=made.status, reason=made.reason, detail=made.message)
        self._condition = made
        self.changed.notify()


def judge(report: Report, *, provider: str) -> Condition | None:
    """The condition; None: what was said before stays. The worst of several paths counts. Pure."""
    if report.reason:
        return Condition(type=TYPE, status="Unknown", reason=report.reason, message=report.message, normal="False")
    broken = [path.address for path in report.paths if path.settled and not path.passing]
    if broken:
        message = f"no answer from {', '.join(broken)}: pods here and pods at {provider} do not reach each other"
        return _unavailable(BROKEN, message)
    small = [path.address for path in report.paths if path.full_size_lost]
    if small:
        message = f"small packets pass to {', '.join(small)}, and those of full size are lost on the way to {provider}"
        return _unavailable(FULL_SIZE_LOST, message)
    if not report.paths or not all(path.settled for path in report.paths):
        return None
    message = f"pods at {provider} are reached from here, by small packets and large ones"
    return Condition(type=TYPE, status="False", reason="PathPasses", message=message, normal="False")


def _unavailable(reason: str, message: str) -> Condition:
    return Condition(type=TYPE, status="True", reason=reason, message=message, normal="False")
