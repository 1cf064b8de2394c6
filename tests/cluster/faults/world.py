"""What a fault test works with: a virtual node, two namespaces, ways to spoil, and the history of what happened."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from deploy import stack
from deploy.lab.api import Api, StatusError
from deploy.lab.cluster import LabCluster
from deploy.lab.components.kwok import HOLD_ANNOTATION
from deploy.lab.errors import LabError
from deploy.lab.faults import Faults
from deploy.lab.process import wait_until
from deploy.lab.proxy import rules
from tests import audit, history
from tests.cluster.faults.proxies import Proxy
from tests.history import Entry, History

Json = dict[str, Any]

CONSUMER_ID = "lab"
LONG = 60.0
"""Seconds that anything may take on a busy machine."""
DELAY = 0.1
"""Seconds of one crossing between a `slow` node and its provider."""
MERGE = "application/merge-patch+json"
_RUNNING = {"startedAt": "2026-01-01T00:00:00Z"}


@dataclass(frozen=True)
class Marks:
    """Where the logs stood when the test began."""

    audit: dict[str, int]
    log: int
    records: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class World:
    """One test's view of a virtual node. All its pods are in a namespace of its own."""

    node: stack.VirtualNode
    faults: Faults
    namespace: str
    outages: list[tuple[float, float]] = field(default_factory=list)
    """When the node could not reach its provider (`provider_away`), in seconds since the epoch."""
    proxies: dict[str, Proxy] = field(default_factory=dict)
    """By cluster; none before a node that reaches the API servers directly."""
    marks: Marks
    consumer_id: str = CONSUMER_ID
    maker: str = ""
    """Who makes the remote pods, if not the node itself: then it asks for them by ShadowPods."""
    caller: str = ""
    """Who reaches the provider through the proxy, if not the node."""

    @property
    def remote_namespace(self) -> str:
        """The provider's namespace for the test's own."""
        return f"{self.namespace}-{self.consumer_id}"

    @property
    def consumer(self) -> Api:
        """The consumer as its administrator."""
        return self.node.consumer.api

    @property
    def provider(self) -> Api:
        """The provider as its administrator."""
        return self.node.provider.api

    @property
    def consumer_proxy(self) -> Proxy:
        """What the node takes for the consumer's API server."""
        return self.proxies["consumer"]

    @property
    def provider_proxy(self) -> Proxy:
        """What the node takes for the provider's API server."""
        return self.proxies["provider"]

    # -- pods

    def path(self, name: str = "", subresource: str = "") -> str:
        """URL path of a consumer's pod."""
        return _pod_path(self.namespace, name, subresource)

    def remote_path(self, name: str = "", subresource: str = "") -> str:
        """URL path of a remote pod."""
        return _pod_path(self.remote_namespace, name, subresource)

    def asked_path(self, name: str = "") -> str:
        """URL path of what the node itself writes and watches at its provider: a pod, or its ShadowPod."""
        if not self.maker:
            return self.remote_path(name)
        path = f"/apis/offloading.isthmus.dev/v1alpha1/namespaces/{self.remote_namespace}/shadowpods"
        return f"{path}/{name}" if name else path

    @property
    def watched(self) -> list[str]:
        """URL paths of all that the node watches of remote pods."""
        return [self.remote_path()] if not self.maker else [self.remote_path(), self.asked_path()]

    def create(self, *names: str, held: bool = False, annotations: dict[str, str] | None = None, **spec: Any) -> None:
        """Create pods on the node; `held` ones get no status but what `set_remote_status` writes."""
        notes = {**(annotations or {}), **({HOLD_ANNOTATION: "true"} if held else {})}
        for name in names:
            body = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "annotations": notes},
                "spec": {
                    "nodeName": self.node.name,
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "main", "image": "none:1"}],
                    **spec,
                },
            }
            self.consumer.request("POST", self.path(), body=body)

    def delete(self, name: str, *, grace: int | None = None) -> None:
        """Delete a consumer's pod; grace 0 is a forced deletion."""
        query = "" if grace is None else f"?gracePeriodSeconds={grace}"
        self.consumer.request("DELETE", self.path(name) + query)

    def pod(self, name: str) -> Json | None:
        """A consumer's pod."""
        return _get(self.consumer, self.path(name))

    def remote(self, name: str) -> Json | None:
        """A remote pod."""
        return _get(self.provider, self.remote_path(name))

    def pods(self) -> Sequence[Json]:
        """The consumer's pods."""
        items: list[Json] = self.consumer.request("GET", self.path())["items"]
        return items

    def remotes(self) -> Sequence[Json]:
        """The remote pods."""
        items: list[Json] = self.provider.request("GET", self.remote_path())["items"]
        return items

    def uid(self, name: str) -> str:
        """UID of a consumer's pod."""
        pod = self.pod(name)
        assert pod is not None
        uid: str = pod["metadata"]["uid"]
        return uid

    def set_remote_status(self, name: str, *, phase: str = "Running", restarts: int = 0, ready: bool = True) -> None:
        """Play the provider's kubelet for a held pod."""
        ended = phase in history.TERMINAL
        code = 1 if phase == "Failed" else 0
        finished = {
            "terminated": {"exitCode": code, "reason": "Completed", "containerID": "containerd://x", **_RUNNING}
        }
        container = {
            "name": "main",
            "image": "none:1",
            "imageID": "none@sha256:1",
            "containerID": f"containerd://{restarts}",
            "ready": ready and not ended,
            "started": not ended,
            "restartCount": restarts,
            "state": finished if ended else {"running": _RUNNING},
        }
        status = "True" if ready and not ended else "False"
        conditions = [{"type": kind, "status": status} for kind in ("Ready", "ContainersReady")]
        body = {"status": {"phase": phase, "containerStatuses": [container], "conditions": conditions}}
        self.provider.request("PATCH", self.remote_path(name, "status"), body=body, content_type=MERGE)

    # -- waiting

    def until(self, condition: Callable[[], object], *, what: str, timeout: float = LONG) -> None:
        """Until it holds; a refusal or no answer of an API server counts as no."""

        try:
            wait_until(_answered(condition), what=f"{what} in {self.namespace}", timeout=timeout, every=0.05)
        except LabError as error:
            raise AssertionError(f"{error}\n{self._scene()}") from None

    def within(self, seconds: float, condition: Callable[[], object]) -> bool:
        """Whether it comes to hold in this time, for what may as well not come."""
        try:
            return wait_until(_answered(condition), what="", timeout=seconds, every=0.05)
        except LabError:
            return False

    def _scene(self) -> str:
        """What somebody needs to see who looks for the cause of a failure: both sides' pods, and the log's end."""
        lines = []
        for side, found in (("consumer", self.pods), ("provider", self.remotes)):
            try:
                lines += [f"{side}: {json.dumps(_without_noise(pod))}" for pod in found()]
            except (StatusError, OSError) as error:
                lines.append(f"{side}: {error}")
        return "\n".join([*lines, self.node.unit.log_tail()])

    def until_phase(self, *names: str, phase: str = "Running", timeout: float = LONG) -> None:
        """Until the consumer's pods have this phase."""

        def reached() -> bool:
            seen = {pod["metadata"]["name"]: pod["status"].get("phase") for pod in self.pods()}
            return all(seen.get(name) == phase for name in names)

        self.until(reached, what=f"pods {names} to be {phase}", timeout=timeout)

    def until_remote(self, *names: str, timeout: float = LONG) -> None:
        """Until the remote pods are there."""
        self.until(lambda: all(self.remote(name) for name in names), what=f"remote pods {names}", timeout=timeout)

    def until_gone(self, *names: str, timeout: float = LONG) -> None:
        """Until the pods are gone on both sides."""
        self.until(
            lambda: not any(self.pod(name) or self.remote(name) for name in names),
            what=f"pods {names} to be gone",
            timeout=timeout,
        )

    def running(self, *names: str, **options: Any) -> None:
        """Create pods and wait until the consumer shows them running."""
        self.create(*names, **options)
        self.until_phase(*names)

    def held_running(self, name: str, *, restarts: int = 0, **options: Any) -> None:
        """Create a held pod and wait until the consumer shows it running."""
        self.create(name, held=True, **options)
        self.until_remote(name)
        self.set_remote_status(name, restarts=restarts)
        self.until_phase(name)

    def restarts(self, name: str) -> int:
        """Restart count as the consumer's pod shows it."""
        pod = self.pod(name) or {}
        return sum(c["restartCount"] for c in pod.get("status", {}).get("containerStatuses", ()))

    def until_restarts(self, name: str, count: int) -> None:
        """Until the consumer's pod shows this restart count."""
        self.until(lambda: self.restarts(name) == count, what=f"restart {count} of {name}")

    def logged(self, event: str, **fields: object) -> list[Json]:
        """Lines of the node's log since the test began."""
        with self.node.unit.log.open("rb") as file:
            file.seek(self.marks.log)
            lines = [json.loads(line) for line in file if line.startswith(b"{") and line.endswith(b"\n")]
        wanted = {"event": event, **fields}.items()
        return [line for line in lines if wanted <= line.items()]

    def until_asked(self, side: str, *names: str, since: int) -> None:
        """Until the node has asked an API server for each of these pods itself, after the record `since`."""
        path, proxy = self.path if side == "consumer" else self.asked_path, self.proxies[side]

        def asked(name: str) -> bool:
            return bool(proxy.seen(path=f"{path(name)}$", verb="get", since=since))

        self.until(lambda: all(map(asked, names)), what=f"doubts about {names}")

    # -- the consumer's pods seen by the node through its proxy

    def list_again(self, side: str, *, path: str, streaming: bool = True) -> None:
        """Make the node's watches of a path begin anew with a list: their next attempt to resume is answered 410."""
        proxy = self.proxies[side]
        if not streaming:
            refusal = rules.status(400, "BadRequest", "no streaming lists here")
            proxy.add(refusal, path=path, query="sendInitialEvents=true")
        proxy.inject(rules.error_event(), path=path)

    @contextmanager
    def provider_away(self, fault: AbstractContextManager[None]) -> Iterator[float]:
        """A fault that keeps the node from its provider; `check` then wants the Node to have told so, and only so."""
        began = time.time()
        with fault:
            yield began
        self.outages.append((began, time.time()))
        self.node.wait_ready(timeout=LONG)

    # -- what happened

    def history(self) -> History:
        """Everything so far."""
        sides = {cluster.name: self._entries(cluster) for cluster in (self.node.consumer, self.node.provider)}
        return History(
            node=self.node.name,
            node_user=f"system:node:{self.node.name}",
            provider_user=self.maker or stack.provider_user(self.consumer_id),
            consumer=sides["consumer"],
            provider=sides["provider"],
            spoiled=self._spoiled(),
            origins_left=self.pods(),
            remotes_left=self.remotes(),
        )

    def check(self) -> History:
        """The history, which keeps the invariants."""
        self.node.unit.check_alive()
        found = self.history()
        found.check()
        if not self.proxies:
            found.check_told(self.outages)
        return found

    def _entries(self, cluster: LabCluster) -> list[Entry]:
        namespace = self.namespace if cluster is self.node.consumer else self.remote_namespace
        return audit.entries(cluster, namespace, offset=self.marks.audit[cluster.name])

    def _spoiled(self) -> list[Entry]:
        found = []
        for side, proxy in self.proxies.items():
            caller = self.caller or stack.provider_user(self.consumer_id)
            user = f"system:node:{self.node.name}" if side == "consumer" else caller
            for record in proxy.records[self.marks.records[side] :]:
                if record.spoiled and not 200 <= record.status < 300:
                    body = json.loads(record.body) if record.body.startswith(b"{") else {}
                    name = body.get("metadata", {}).get("name", "")
                    request = record.request
                    path = f"{request.path}?{'watch' if request.watch else ''}"
                    found.append(
                        Entry(record.at, record.at, user, request.verb, path, "", "", name, record.status, body)
                    )
        return found


def marks(node: stack.VirtualNode, proxies: dict[str, Proxy]) -> Marks:
    """Where the logs stand now."""
    clusters = (node.consumer, node.provider)
    return Marks(
        audit={cluster.name: audit.size(cluster) for cluster in clusters},
        log=node.unit.log.stat().st_size,
        records={side: len(proxy.records) for side, proxy in proxies.items()},
    )


def _without_noise(pod: Json) -> Json:
    metadata = {key: value for key, value in pod["metadata"].items() if key != "managedFields"}
    return {"metadata": metadata, "node": pod["spec"].get("nodeName"), "status": pod["status"]}


def _pod_path(namespace: str, name: str, subresource: str) -> str:
    parts = (part for part in (name, subresource) if part)
    return "/".join((f"/api/v1/namespaces/{namespace}/pods", *parts))


def _answered(condition: Callable[[], object]) -> Callable[[], bool]:
    def holds() -> bool:
        try:
            return bool(condition())
        except (StatusError, OSError):
            return False

    return holds


def _get(api: Api, path: str) -> Json | None:
    try:
        return api.request("GET", path)
    except StatusError as error:
        if error.status == 404:
            return None
        raise
