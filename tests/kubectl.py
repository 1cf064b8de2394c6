"""kubectl as tests use it: commands, objects as dicts, and waiting for conditions with a bound."""

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from deploy.lab.cluster import LabCluster
from tests import reading
from tests.reading import NotUnderstoodError, RefusedError

T = TypeVar("T")
_REST, _LONGEST_REST = 2.0, 1.0
"""How long is waited after a probe: so many times what it took, but not longer than this (seconds)."""


class KubectlError(AssertionError):
    """kubectl failed; the text is what it said."""


def eventually(probe: Callable[[], T], *, what: str, timeout: float = 30.0, every: float = 0.1) -> T:
    """The first true value of `probe`; AssertionError after `timeout` seconds. KubectlErrors count as false.

    A probe that costs much, as one by kubectl does, is not made so often: other tests want the processors too.
    """
    deadline = time.monotonic() + timeout
    last: object = None
    while (began := time.monotonic()) < deadline:
        try:
            value = probe()
        except KubectlError as error:
            last = error
        else:
            if value:
                return value
            last = value
        time.sleep(max(every, min(_REST * (time.monotonic() - began), _LONGEST_REST)))
    raise AssertionError(f"waited {timeout:.0f} s for {what}; last seen: {last!r}")


@dataclass(frozen=True)
class Kubectl:
    """One binary with one kubeconfig and namespace."""

    binary: Path
    kubeconfig: Path
    namespace: str = "default"
    env: Mapping[str, str] = field(default_factory=dict)

    def command(self, *arguments: str) -> list[str]:
        """The full command line."""
        return [str(self.binary), f"--kubeconfig={self.kubeconfig}", f"--namespace={self.namespace}", *arguments]

    def with_env(self, **env: str) -> "Kubectl":
        """The same with environment variables."""
        return replace(self, env=env)

    def popen(self, *arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
        """Start it and leave the rest to the caller."""
        return subprocess.Popen(self.command(*arguments), env=self._environment(), **options)

    def result(
        self, *arguments: str, stdin: bytes | None = None, timeout: float = 60.0
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run to its end, whatever the exit code."""
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout,
            check=False,
            env=self._environment(),
        )

    def run(self, *arguments: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Standard output as text; KubectlError if it failed."""
        done = self.result(*arguments, stdin=None if stdin is None else stdin.encode(), timeout=timeout)
        if done.returncode != 0:
            found = self._conditions(arguments[-1]) if arguments[0] == "wait" else ""
            said = done.stderr.decode(errors="replace").strip()
            raise KubectlError(f"kubectl {' '.join(arguments)}: {said}{found}")
        return done.stdout.decode(errors="replace")

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        """Apply objects."""
        self.run("apply", "-f", "-", stdin="\n---\n".join(json.dumps(m) for m in manifests))

    def create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object and return it."""
        try:
            return reading.reader(self.kubeconfig).create(manifest, namespace=self.namespace)
        except NotUnderstoodError:
            said = self.run("create", "-o", "json", "-f", "-", stdin=json.dumps(manifest))
            created: dict[str, Any] = json.loads(said)
            return created
        except RefusedError as error:
            raise KubectlError(f"create {manifest['kind']}: {error}") from None

    def delete(self, *arguments: str, timeout: float = 60.0) -> None:
        """Delete objects, by the words of `kubectl delete`, and wait until they are gone unless told otherwise.

        kubectl itself waits for ever for one that another of the same name follows at once: it may look for the first
        after the second is there, and then waits for that one's end.
        """
        try:
            asked = reading.deletion(arguments)
            api = reading.reader(self.kubeconfig)
        except NotUnderstoodError:
            self.run("delete", *arguments, timeout=timeout)
            return
        inside = replace(self, namespace=asked.namespace or self.namespace)
        uids: dict[str, str] = {}
        for name in asked.names:
            try:
                uids[name] = api.delete(asked.kind, name, namespace=inside.namespace, options=asked.options)
            except RefusedError as error:
                if not (asked.ignore_not_found and error.is_not_found):
                    raise KubectlError(f"delete {asked.kind} {name}: {error}") from None
        for name, uid in uids.items() if asked.wait else ():
            inside.wait_gone(asked.kind, name, uid=uid, timeout=timeout)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """An object."""
        try:
            return reading.reader(self.kubeconfig).get(kind, name, namespace=self.namespace)
        except NotUnderstoodError:
            found: dict[str, Any] = json.loads(self.run("get", kind, name, "-o", "json"))
            return found
        except RefusedError as error:
            raise KubectlError(f"get {kind} {name}: {error}") from None

    def list(self, kind: str, *arguments: str) -> Sequence[dict[str, Any]]:
        """Objects of a kind."""
        try:
            return reading.reader(self.kubeconfig).list(kind, arguments, namespace=self.namespace)
        except NotUnderstoodError:
            items: list[dict[str, Any]] = json.loads(self.run("get", kind, "-o", "json", *arguments))["items"]
            return items
        except RefusedError as error:
            raise KubectlError(f"get {kind} {' '.join(arguments)}: {error}") from None

    def exists(self, kind: str, name: str) -> bool:
        """Whether there is such an object."""
        try:
            return bool(reading.reader(self.kubeconfig).get(kind, name, namespace=self.namespace))
        except NotUnderstoodError:
            return bool(self.run("get", kind, name, "--ignore-not-found", "-o", "name").strip())
        except RefusedError as error:
            if error.is_not_found:
                return False
            raise KubectlError(f"get {kind} {name}: {error}") from None

    def wait_for(
        self,
        kind: str,
        name: str,
        condition: Callable[[dict[str, Any]], object] = bool,
        *,
        what: str = "",
        timeout: float = 60.0,
    ) -> dict[str, Any]:
        """The object once `condition` holds for it; a field that is not there yet is a condition not met."""
        found: dict[str, Any] = {}

        def probe() -> bool:
            nonlocal found
            found = self.get(kind, name)
            try:
                return bool(condition(found))
            except LookupError:
                return False

        eventually(probe, what=what or f"{kind} {name}", timeout=timeout)
        return found

    def wait_gone(self, kind: str, name: str, *, uid: str = "", timeout: float = 60.0) -> None:
        """Until there is no such object, or not the one of this UID."""
        last: dict[str, Any] = {}

        def gone() -> bool:
            if not self.exists(kind, name):
                return True
            last.update(self.get(kind, name))
            return bool(uid) and last["metadata"]["uid"] != uid

        try:
            eventually(gone, what=f"{kind} {name} to be gone", timeout=timeout)
        except AssertionError as error:
            raise KubectlError(f"{error}; it is\n{json.dumps(last, indent=2)}") from None

    def _conditions(self, name: str) -> str:
        """What an object that was waited for says of itself, for the error."""
        done = self.result("get", name, "-o", "jsonpath={.status.conditions}")
        return f"; its conditions: {done.stdout.decode(errors='replace')}"

    def _environment(self) -> dict[str, str]:
        """Nothing of the caller's; what API servers serve is kept beside the kubeconfig, and goes with it."""
        cache = str(self.kubeconfig.with_name(f".{self.kubeconfig.name}.cache"))
        return {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "KUBECACHEDIR": cache, "GOGC": "400", **self.env}


def admin(cluster: LabCluster, namespace: str) -> Kubectl:
    """kubectl as the administrator of a lab's cluster."""
    return Kubectl(cluster.plan.binaries / "kubectl", cluster.admin_kubeconfig, namespace)


def ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod is Ready."""
    conditions = pod.get("status", {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def phase(wanted: str) -> Callable[[Mapping[str, Any]], bool]:
    """Whether a pod has this phase."""
    return lambda pod: pod.get("status", {}).get("phase") == wanted
