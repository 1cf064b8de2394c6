"""What really happened, from both API servers' audit logs, and whether it keeps the invariants I1 to I7.

An end state tells little of faults: a pod that was lost and made again looks like one that was never touched. The
audit log (level RequestResponse) has every write with its time, its author and the object it left. Both API servers
run on this machine, so their times can be compared.
"""

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Any

Json = dict[str, Any]

ORIGIN_UID = "offloading.isthmus.dev/origin-uid"
KWOK = "lab:kwok"
TERMINAL = ("Succeeded", "Failed")
WINDOW = 10.0
MOST_FAILURES = 20
"""Equal requests that may fail within WINDOW seconds: a backoff from 50 ms that doubles makes 8."""
NOTICED = 15.0
"""Seconds after which the Node has to tell that its provider is away (F5), or is here again."""
MOST_WRITES = 30
"""Writes to one object that may succeed within WINDOW seconds."""
STREAMS = ("attach", "exec", "log", "portforward")
"""Asked for by others, as often as they like: the node only passes them on."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One request, as the audit log or a proxy has it. Times are seconds since the epoch."""

    began: float
    ended: float
    user: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    status: int
    request: Json = field(default_factory=dict)
    response: Json = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether it was carried out."""
        return 200 <= self.status < 300

    @property
    def target(self) -> tuple[str, ...]:
        """What it was about, and how: equal for a request and its repetition."""
        return self.verb, self.resource, self.subresource, self.namespace, self.name

    def __str__(self) -> str:
        what = "/".join(part for part in (self.resource, self.subresource) if part)
        return f"{self.began:.3f} {self.user}: {self.verb} {what} {self.namespace}/{self.name} -> {self.status}"


@dataclass(slots=True, eq=False)
class Life:
    """One pod from its creation to its removal."""

    uid: str
    name: str
    origin: str
    """UID of the consumer's pod, of a remote pod."""
    began: float
    ended: float = inf
    """When the request came that removed it."""
    deletions: list[Entry] = field(default_factory=list)
    """Requests that were to end it."""
    states: list[Json] = field(default_factory=list)
    """The pod after each write, in the order of resourceVersion."""

    @property
    def told_to_end(self) -> float:
        """When it was first told to end; infinity for never."""
        return min((entry.began for entry in self.deletions), default=inf)

    @property
    def struck(self) -> bool:
        """Whether nobody wanted its end: kwok deletes by name, so it can hit a pod that took the name of another."""
        return bool(self.deletions) and all(entry.user == KWOK for entry in self.deletions)

    def __str__(self) -> str:
        return f"{self.name} ({self.uid}, {self.began:.3f} to {self.ended:.3f})"


def read(log: Path, *, offset: int = 0) -> Iterator[Entry]:
    """The completed requests of an audit log from the first line on that begins at or after a byte offset."""
    with log.open("rb") as file:
        if offset:
            file.seek(offset - 1)
            file.readline()  # the API server may have been in the middle of a line when the offset was taken
        for line in file:
            if not line.endswith(b"\n"):
                return
            event = json.loads(line)
            if event["stage"] == "ResponseComplete" and "objectRef" in event:
                yield _entry(event)


def _entry(event: Json) -> Entry:
    ref, request, response = event["objectRef"], event.get("requestObject") or {}, event.get("responseObject") or {}
    # An object that is created under a generateName has its name from the answer.
    created = (request.get("metadata") or {}).get("name") or (response.get("metadata") or {}).get("name")
    return Entry(
        began=_seconds(event["requestReceivedTimestamp"]),
        ended=_seconds(event["stageTimestamp"]),
        user=event["user"]["username"],
        verb=event["verb"],
        resource=ref.get("resource", ""),
        subresource=ref.get("subresource", ""),
        namespace=ref.get("namespace", ""),
        name=ref.get("name") or created or "",
        status=(event.get("responseStatus") or {}).get("code", 0),
        request=request,
        response=response,
    )


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def lives(entries: Iterable[Entry]) -> list[Life]:
    """The pods of one namespace."""
    found: list[Life] = []
    present: dict[str, Life] = {}
    # A request takes effect before its answer is written; in this order a creation comes before what rests on it.
    for entry in sorted(entries, key=lambda entry: entry.ended):
        if entry.resource != "pods" or not entry.done:
            continue
        if entry.verb == "create" and not entry.subresource:
            if entry.name in present:
                # The API server itself says that the name was free.
                present[entry.name].ended = min(present[entry.name].ended, entry.began)
            present[entry.name] = _born(entry)
            found.append(present[entry.name])
        elif entry.verb == "deletecollection":
            for life in present.values():
                life.deletions.append(entry)
        elif entry.name in present:
            _live(present[entry.name], entry)
    for life in found:
        life.states.sort(key=lambda pod: int(pod["metadata"]["resourceVersion"]))
    return found


def _born(entry: Entry) -> Life:
    metadata = entry.response["metadata"]
    origin = metadata.get("annotations", {}).get(ORIGIN_UID, "")
    return Life(metadata["uid"], entry.name, origin, entry.began, states=[entry.response])


def _live(life: Life, entry: Entry) -> None:
    """Take a request about a living pod into account."""
    pod = entry.response
    if entry.verb == "delete" or (entry.verb, entry.subresource) == ("create", "eviction"):
        life.deletions.append(entry)
    if pod.get("kind") == "Pod":
        if pod["metadata"]["uid"] != life.uid:
            return
        if "resourceVersion" in pod["metadata"]:  # the answer to a removal may lack it
            life.states.append(pod)
    if _removed(entry):
        life.ended = min(life.ended, entry.began)


def _removed(entry: Entry) -> bool:
    """Whether the pod is gone from the API server after this request."""
    pod = entry.response
    if pod.get("kind") != "Pod":
        return entry.verb == "delete"
    metadata = pod["metadata"]
    if metadata.get("finalizers"):
        return False
    if entry.verb == "delete":
        return entry.request.get("gracePeriodSeconds") == 0 or not metadata.get("deletionGracePeriodSeconds")
    return "deletionTimestamp" in metadata and not metadata.get("deletionGracePeriodSeconds")


@dataclass(frozen=True, kw_only=True)
class History:
    """All that was done to the pods of one consumer namespace, by everybody, on both sides."""

    node: str
    node_user: str
    """Who the virtual node is at the consumer."""
    provider_user: str
    """Who it is at the provider."""
    consumer: Sequence[Entry]
    provider: Sequence[Entry]
    spoiled: Sequence[Entry] = ()
    """Requests of the virtual node that a proxy answered."""
    origins_left: Sequence[Json]
    """The consumer's pods at the end."""
    remotes_left: Sequence[Json]
    """The provider's."""

    def origins(self) -> list[Life]:
        """The consumer's pods, by their creation."""
        return lives(entry for entry in self.consumer if entry.namespace)

    def remotes(self) -> list[Life]:
        """The provider's pods, by their creation."""
        return lives(entry for entry in self.provider if entry.namespace)

    def remotes_of(self, uid: str) -> list[Life]:
        """The remote pods that the consumer's pod of this UID ever had, without those that kwok alone removed."""
        return [life for life in self.remotes() if life.origin == uid and not life.struck]

    def ready(self) -> list[tuple[float, str]]:
        """What the Node's Ready condition was, each with the time from which on."""
        told: list[tuple[float, str]] = []
        for entry in sorted(self.consumer, key=lambda entry: entry.ended):
            if (entry.resource, entry.name) != ("nodes", self.node) or not entry.done:
                continue
            for condition in entry.response.get("status", {}).get("conditions") or ():
                if condition["type"] == "Ready" and (not told or told[-1][1] != condition["status"]):
                    told.append((entry.ended, condition["status"]))
        return told

    def check_told(self, outages: Sequence[tuple[float, float]]) -> None:
        """I6: the Node was unready in every outage of the provider that lasted, and never else."""
        unready = [at for at, state in self.ready() if state == "False"]
        lies = [at for at in unready if not any(began < at < healed + NOTICED for began, healed in outages)]
        assert not lies, f"Node unready at {lies} though the provider was there: {outages}"
        untold = [
            (began, healed)
            for began, healed in outages
            if healed - began > NOTICED and not any(began < at < began + NOTICED for at in unready)
        ]
        assert not untold, f"outages that the Node did not tell: {untold}"
        assert not unready or self.ready()[-1][1] == "True", "the Node did not come back"

    def check(self, *, at_rest: bool = True) -> None:
        """AssertionError with all violations of I1 to I5 and I7; not `at_rest`, without what holds in the end only."""
        always = (self.let_go_too_early, self.doubled, self.deleted_without_cause, self.went_back, self.stormed)
        in_the_end = (self.lost, self.orphaned, self.diverged)
        rules: tuple[Callable[[], Iterator[str]], ...] = (*always, *in_the_end) if at_rest else always
        violations = list(itertools.chain.from_iterable(rule() for rule in rules))
        assert not violations, "\n".join(violations)

    def lost(self) -> Iterator[str]:
        """I1: every pod of the node that has not ended has a remote pod at the end, or says why not."""
        there = {_origin(pod) for pod in self.remotes_left}
        for pod in self._own_origins_left():
            if pod["metadata"]["uid"] not in there and not pod["status"].get("reason"):
                yield f"I1: {pod['metadata']['name']} has no remote pod and says no reason"

    def let_go_too_early(self) -> Iterator[str]:
        """I1: a consumer's pod is removed by us only when its remote pod is gone."""
        remotes = self.remotes()
        for origin in self.origins():
            for entry in origin.deletions:
                if entry.user != self.node_user:
                    continue
                for remote in remotes:
                    if remote.origin == origin.uid and remote.began < entry.began < remote.ended:
                        yield f"I1: {origin} was removed while its remote pod {remote} lived"

    def doubled(self) -> Iterator[str]:
        """I2: never two remote pods for one consumer's pod."""
        by_origin: dict[str, list[Life]] = defaultdict(list)
        for life in self.remotes():
            if life.origin:
                by_origin[life.origin].append(life)
        for uid, found in by_origin.items():
            for one, other in itertools.pairwise(sorted(found, key=lambda life: life.began)):
                if other.began < one.ended:
                    yield f"I2: origin {uid} had {one} and {other} at once"

    def deleted_without_cause(self) -> Iterator[str]:
        """I3: we delete no remote pod before its origin was told to end."""
        told = {life.uid: life.told_to_end for life in self.origins()}
        for remote in self.remotes():
            for entry in remote.deletions:
                if entry.user == self.provider_user and entry.ended < told.get(remote.origin, inf):
                    yield f"I3: {remote} was deleted while its origin {remote.origin} lived: {entry}"

    def orphaned(self) -> Iterator[str]:
        """I3: no remote pod without its origin at the end."""
        alive = {pod["metadata"]["uid"] for pod in self.origins_left}
        for pod in self.remotes_left:
            if _origin(pod) and _origin(pod) not in alive:
                yield f"I3: remote pod {pod['metadata']['name']} of {_origin(pod)} is an orphan"

    def went_back(self) -> Iterator[str]:
        """I4: a pod that ended does not run again, and restart counts don't fall."""
        for origin in self.origins():
            for one, other in itertools.pairwise(origin.states):
                phases = one["status"].get("phase"), other["status"].get("phase")
                if phases[0] in TERMINAL and phases[1] != phases[0]:
                    yield f"I4: {origin} went from {phases[0]} to {phases[1]}"
                before, after = _restarts(one), _restarts(other)
                for container, count in before.items():
                    if after.get(container, count) < count:
                        yield f"I4: restarts of {container} in {origin} fell from {count} to {after[container]}"

    def diverged(self) -> Iterator[str]:
        """I5: at the end both sides say the same of a pod."""
        remotes = {_origin(pod): pod for pod in self.remotes_left}
        for origin in self._own_origins_left():
            remote = remotes.get(origin["metadata"]["uid"])
            if remote is not None and remote["status"].get("phase") != origin["status"].get("phase"):
                name, seen = origin["metadata"]["name"], origin["status"].get("phase")
                yield f"I5: {name} is {seen}, its remote pod {remote['status'].get('phase')}"

    def stormed(self) -> Iterator[str]:
        """I7: no request is repeated without end, whether it fails or succeeds."""
        failed: dict[tuple[str, ...], list[float]] = defaultdict(list)
        written: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for side, entries in (("consumer", self.consumer), ("provider", self.provider), ("proxy", self.spoiled)):
            for entry in entries:
                if entry.user not in (self.node_user, self.provider_user) or entry.subresource in STREAMS:
                    continue
                if not entry.done:
                    failed[side, *entry.target].append(entry.began)
                elif entry.verb not in ("get", "list", "watch"):
                    written[side, *entry.target].append(entry.began)
        yield from (
            f"I7: failed {count} times in {WINDOW:.0f} s: {key}" for key, count in _too_often(failed, MOST_FAILURES)
        )
        yield from (
            f"I7: written {count} times in {WINDOW:.0f} s: {key}" for key, count in _too_often(written, MOST_WRITES)
        )

    def _own_origins_left(self) -> list[Json]:
        """The consumer's pods of this node that have not ended and are not about to."""
        return [
            pod
            for pod in self.origins_left
            if pod["spec"].get("nodeName") == self.node
            and pod["status"].get("phase") not in TERMINAL
            and "deletionTimestamp" not in pod["metadata"]
        ]


def _origin(pod: Json) -> str:
    uid: str = pod["metadata"].get("annotations", {}).get(ORIGIN_UID, "")
    return uid


def _restarts(pod: Json) -> dict[str, int]:
    statuses = (*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ()))
    return {status["name"]: status.get("restartCount", 0) for status in statuses}


def _too_often(times: dict[tuple[str, ...], list[float]], most: int) -> Iterator[tuple[tuple[str, ...], int]]:
    for key, found in times.items():
        found.sort()
        start = 0
        worst = 0
        for end, at in enumerate(found):
            while at - found[start] > WINDOW:
                start += 1
            worst = max(worst, end - start + 1)
        if worst > most:
            yield key, worst
