"""NamespaceOffloadings between two real control planes: a virtual kubelet as it is started, and the controller by it.

The controller has the rights of `deploy/manager`, the virtual kubelet those of a node and of `deploy/rbac`.
"""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from deploy import stack
from deploy.lab.cluster import LabCluster
from deploy.lab.faults import API_SERVER, Faults
from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from kube import config
from kube.client import Client
from kube.resources import PODS
from reflection.scheduling import names
from reflection.scheduling.keeper import KeeperSettings
from reflection.scheduling.webhook import WebhookSettings
from reflection.tokens import TOKEN_FOR_LABEL
from tests.cluster.scheduling.conftest import Space, pod
from tests.cluster.scheduling.managing import CONSUMER_ID, PROVIDER, Background, binding
from tests.cluster.scheduling.waiting import LONG, Json, until
from tests.cluster.scheduling.webhooks import hook
from tests.kubectl import Kubectl, admin, eventually, phase

SELECTED: Json = {"nodeSelector": {"type": "virtual-kubelet"}, "tolerations": [names.TOLERATION]}


@pytest.fixture(scope="module")
def vnode(lab: Lab, with_kinds: LabCluster) -> Iterator[stack.VirtualNode]:
    """A virtual kubelet that takes its namespaces from objects."""
    stack.grant(lab.provider, consumer_id=CONSUMER_ID)
    kubectl = admin(with_kinds, "default")
    for name in ("consumer-offloadings", "consumer-kinds"):
        kubectl.run("apply", "--server-side", "-f", str(stack.RBAC / f"{name}.yaml"))
    kubectl.apply(binding("isthmus-namespace-offloadings", "system:node:virtual-1"))
    options = ["--namespaces-from-objects", f"--provider={PROVIDER}", f"--label=provider={PROVIDER}"]
    access = with_kinds.url.removeprefix("https://")
    options += [f"--api-access={access}", "--reflect-kinds=default"]
    node = stack.start(lab, consumer_id=CONSUMER_ID, options=[*options, "--reference-linger=1"])
    node.wait_ready()
    yield node
    node.unit.check_alive()
    node.unit.stop()
    kubectl.delete("node", node.name, "--ignore-not-found")


@dataclass(frozen=True)
class Pair:
    """A namespace at the consumer, offloaded to the provider by what runs."""

    here: Space
    provider: Kubectl
    """In the namespace that stands for it by default."""

    def condition(self, kind: str) -> Json:
        found: list[Json] = self.here.offloading().get("status", {}).get("conditions") or []
        return next((one for one in found if one["type"] == kind), {"status": "", "reason": "", "message": ""})

    def until(self, kind: str, *, reason: str, says: str = "") -> Json:
        found: Json = {}

        def probe() -> bool:
            nonlocal found
            found = self.condition(kind)
            return found["reason"] == reason and says in found["message"]

        try:
            eventually(probe, what=f"condition {kind} with reason {reason} {says}", timeout=LONG)
        except AssertionError as error:
            raise AssertionError(f"{error}; the object: {json.dumps(self.here.offloading())}") from error
        return found

    def entry(self) -> Json:
        """What the provider says."""
        entries: list[Json] = self.here.offloading().get("status", {}).get("providers") or []
        return next((one for one in entries if one["provider"] == PROVIDER), {})

    def labelled(self) -> bool:
        labels = self.here.kubectl.get("namespace", self.here.name)["metadata"]["labels"]
        return bool(labels.get(names.SCHEDULING_LABEL) == names.SCHEDULING_ENABLED)

    def run_pod(self, name: str, **spec: Any) -> None:
        """A pod on the virtual node, running."""
        self.here.pod(name, **{**SELECTED, **spec})
        self.here.kubectl.wait_for("pod", name, phase("Running"), timeout=LONG)

    def take_back(self) -> None:
        self.here.kubectl.delete("namespaceoffloading", "offloading", "--wait=false")

    def until_gone(self) -> None:
        try:
            self.here.kubectl.wait_gone("namespaceoffloading", "offloading", timeout=LONG)
        except AssertionError as error:
            raise AssertionError(f"{error}; the object: {json.dumps(self.here.offloading())}") from error


@pytest.fixture
def pair(space: Space, vnode: stack.VirtualNode, controller: Background) -> Iterator[Pair]:
    provider = admin(vnode.provider, f"{space.name}-{CONSUMER_ID}")
    yield Pair(space, provider)
    vnode.unit.check_alive()
    provider.delete("namespace", provider.namespace, "--ignore-not-found", "--wait=false")


def test_a_namespace_is_offloaded_and_taken_back(pair: Pair) -> None:
    here, there = pair.here.kubectl, pair.provider
    pair.here.offload(podStrategy="LocalAndRemote")
    pair.until("Ready", reason="Offloaded")
    here.run("wait", "--for=condition=Ready", "namespaceoffloading/offloading", "--timeout=5s")
    assert pair.labelled()
    entry = pair.entry()
    assert (entry["namespace"], entry["ready"], entry["reason"]) == (there.namespace, True, "Mapped")
    assert there.exists("namespace", there.namespace), "made before any pod needs it"

    pair.run_pod("one")
    assert there.exists("pod", "one")
    for strategy, labelled in (("Local", False), ("Remote", True), ("Local", False)):
        pair.here.offload(podStrategy=strategy)
        eventually(lambda wanted=labelled: pair.labelled() == wanted, what=strategy, timeout=LONG)  # type: ignore[misc]  # a default argument
    assert here.get("pod", "one")["status"]["phase"] == "Running", "a change of strategy is for new pods"
    uid = there.get("pod", "one")["metadata"]["uid"]

    pair.here.offload(podStrategy="Local", virtualNodeSelector={"matchLabels": {"provider": "south"}})
    pair.until("Ready", reason="NoVirtualNode")
    eventually(lambda: pair.entry().get("reason") == "PodsRemain", what="the entry to tell of the pod", timeout=LONG)
    assert there.get("pod", "one")["metadata"]["uid"] == uid, "so is a change of selector"
    refused = pair.here.pod("two", **SELECTED)["metadata"]["name"]
    here.wait_for("pod", refused, lambda found: "does not select it" in found["status"]["message"], timeout=LONG)

    pair.take_back()
    pair.until_gone()
    assert not there.exists("namespace", there.namespace)
    here.wait_gone("pod", "one")
    assert not pair.labelled()


def test_a_foreign_namespace_is_named_and_left_alone(pair: Pair) -> None:
    there = pair.provider
    there.run("create", "namespace", there.namespace)
    there.run("create", "configmap", "treasure")
    pair.here.offload()
    told = pair.until("Ready", reason="ProvidersNotReady", says="ForeignNamespace")
    assert there.namespace in told["message"]
    pair.here.pod("one", **SELECTED)
    pair.here.kubectl.wait_for("pod", "one", lambda found: "exists and was not made" in found["status"]["message"])
    pair.take_back()
    pair.until_gone()
    assert there.exists("configmap", "treasure")
    assert not there.get("namespace", there.namespace)["metadata"].get("deletionTimestamp")


def test_a_foreign_object_is_named_by_a_condition_and_left_alone(pair: Pair) -> None:
    here, there = pair.here.kubectl, pair.provider
    pair.here.offload()
    pair.until("ObjectsReflected", reason="NotWatched")
    # The controller would, if this virtual node were declared.
    here.run("create", "rolebinding", "kinds", "--clusterrole=isthmus-kinds", "--user=system:node:virtual-1")
    pair.until("ObjectsReflected", reason="NoneHeldUp")
    pair.until("Ready", reason="Offloaded")
    there.create(service("web"))
    theirs = there.get("service", "web")
    here.create(service("web"))
    told = pair.until("ObjectsReflected", reason="ForeignObject", says=f"Service {there.namespace}/web")
    assert told["status"] == "False"
    assert f"{PROVIDER}: services web: " in told["message"]
    entry = pair.entry()
    assert [(one["resource"], one["name"]) for one in entry["problems"]] == [("services", "web")]
    assert (entry["ready"], entry["problemCount"]) == (True, 1)
    here.create(service("other"))
    there.wait_for("service", "other", timeout=LONG)
    assert there.get("service", "web") == theirs
    here.delete("service", "web")
    pair.until("ObjectsReflected", reason="NoneHeldUp")
    assert "problems" not in pair.entry()
    assert there.get("service", "web") == theirs


def service(name: str) -> Json:
    spec = {"ports": [{"port": 80}], "selector": {"app": name}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def test_a_name_that_the_provider_denies_is_told(pair: Pair) -> None:
    """deploy/rbac lets a consumer make namespaces that end in its id only."""
    pair.here.offload(namespaceMapping="SelectedName", remoteNamespace=f"mine-{pair.here.name}")
    pair.until("Ready", reason="ProvidersNotReady", says="Denied: ")
    pair.take_back()
    pair.until_gone()


def test_a_namespace_that_the_provider_gave_is_used_and_stays(pair: Pair, vnode: stack.VirtualNode) -> None:
    given = admin(vnode.provider, f"given-{uuid.uuid4().hex[:8]}")
    stack.grant_namespace(vnode.provider, given.namespace, consumer_id=CONSUMER_ID)
    given.run("label", "namespace", given.namespace, f"offloading.isthmus.dev/consumer={CONSUMER_ID}")
    try:
        pair.here.kubectl.run("create", "configmap", "settings", "--from-literal=a=b")
        pair.here.offload(namespaceMapping="SelectedName", remoteNamespace=given.namespace)
        pair.until("Ready", reason="Offloaded")
        container = {"name": "main", "image": "isthmus.dev/none:1", "envFrom": [{"configMapRef": {"name": "settings"}}]}
        pair.run_pod("one", containers=[container])
        assert given.exists("configmap", "settings")
        pair.take_back()
        pair.until_gone()
        assert not given.exists("configmap", "settings"), "what was made there is gone"
        assert not given.exists("pod", "one")
        assert not given.get("namespace", given.namespace)["metadata"].get("deletionTimestamp")
    finally:
        given.delete("namespace", given.namespace, "--wait=false")


def test_a35_a_secret_that_must_not_leave_stays_though_a_pod_names_it(pair: Pair) -> None:
    here, there = pair.here.kubectl, pair.provider
    for name in ("internal-key", "key"):
        here.run("create", "secret", "generic", name, "--from-literal=a=b")
    pair.here.offload(reflection={"secrets": {"deny": ["internal-*"]}})
    pair.until("Ready", reason="Offloaded")

    def reader(secret: str) -> list[Json]:
        source = [{"secretRef": {"name": secret}}]
        return [{"name": "main", "image": "isthmus.dev/none:1", "envFrom": source}]

    pair.run_pod("two", containers=reader("key"))
    pair.here.pod("one", containers=reader("internal-key"), **SELECTED)
    refused = here.wait_for("pod", "one", lambda found: found["status"].get("reason") == "OffloadRefused", timeout=LONG)
    assert "Secret internal-key must not leave this cluster" in refused["status"]["message"]
    assert there.exists("secret", "key")
    assert not there.exists("secret", "internal-key")
    assert not there.exists("pod", "one")


def test_f19_volumes_and_pods_of_others_are_not_removed_with_a_namespace(
    pair: Pair, vnode: stack.VirtualNode, faults: Faults
) -> None:
    """Nor is the namespace given up for removed while nobody can look, nor forgotten by a new process."""
    there = pair.provider
    pair.here.offload()
    pair.until("Ready", reason="Offloaded")
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    there.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": claim})
    there.wait_for("serviceaccount", "default", timeout=LONG)
    there.create(pod("stranger", nodeSelector={"no": "where"}))
    pair.take_back()
    pair.until("Ready", reason="Removing", says="ForeignObjects: 1 pod (stranger)")
    there.delete("pod", "stranger")
    pair.until("Ready", reason="Removing", says="VolumesRemain: 1 PersistentVolumeClaim (data)")
    with faults.killed("provider", API_SERVER):
        pair.until("Ready", reason="Removing", says="ProviderUnreachable")
        vnode.unit.stop()
    vnode.unit.start()
    pair.until("Ready", reason="Removing", says="VolumesRemain")
    there.delete("pvc", "data")
    pair.until_gone()
    assert not there.exists("namespace", there.namespace)


def test_evictions_wait_for_disruption_budgets_and_say_so(pair: Pair) -> None:
    here = pair.here.kubectl
    pair.here.offload()
    pair.until("Ready", reason="Offloaded")
    pair.run_pod("one", metadata={"labels": {"app": "one"}})
    budget = {"minAvailable": 1, "selector": {"matchLabels": {"app": "one"}}}
    here.create({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": budget})
    here.wait_for("pdb", "b", lambda found: found["status"]["currentHealthy"] == 1, timeout=LONG)
    pair.take_back()
    pair.until("Ready", reason="Removing", says="one: Cannot evict pod")
    assert pair.provider.get("pod", "one")["status"]["phase"] == "Running"
    here.delete("pdb", "b")
    here.wait_gone("pod", "one", timeout=LONG)


def test_pods_made_without_the_webhook_are_reported(pair: Pair) -> None:
    """No webhook is registered here: every pod is made as it is while the namespace says it should be prepared."""
    here = pair.here.kubectl
    pair.here.pod("before")
    pair.here.offload(podStrategy="Remote")
    enabled = pair.until("SchedulingEnabled", reason="Remote")
    eventually(pair.labelled, what="the label", timeout=LONG)
    assert pair.until("PodsPrepared", reason="AllPrepared")["status"] == "True"

    def created_later() -> bool:
        """Times are whole seconds; a pod of the same second counts as earlier."""
        here.delete("pod", "missed", "--ignore-not-found", "--grace-period=0", "--force")
        made = pair.here.pod("missed")
        return bool(made["metadata"]["creationTimestamp"] > enabled["lastTransitionTime"])

    eventually(created_later, what="a pod after the change", timeout=LONG)
    pair.here.pod("excused", metadata={"labels": {names.OPT_OUT: "true"}})
    pair.here.pod("marked", metadata={"annotations": {names.STRATEGY_MARK: "Remote"}})
    told = pair.until("PodsPrepared", reason="WebhookMissed")
    assert "1 pod was made" in told["message"]
    assert "local nodes: missed;" in told["message"]

    def event() -> bool:
        return any(one["reason"] == "WebhookMissed" and "missed" in one["message"] for one in here.list("events"))

    eventually(event, what="the event", timeout=LONG)
    here.delete("pod", "missed", "--grace-period=0", "--force")
    pair.until("PodsPrepared", reason="AllPrepared")


@pytest.fixture
async def manager(manager_kubeconfig: Path) -> AsyncIterator[Client]:
    """A client with the manager's rights."""
    credentials = await config.load(kubeconfig=str(manager_kubeconfig))
    async with Client.connect(credentials, name="consumer") as made:
        yield made


async def test_a_plain_pod_goes_where_its_namespace_says(
    pair: Pair, client: Client, manager: Client, settings: WebhookSettings
) -> None:
    """From the object by the label to the webhook, the scheduler and the provider; nobody edited the pod."""
    here = pair.here.kubectl
    usual = KeeperSettings(namespace="isthmus", endpoint=settings.keeper.endpoint)
    async with hook(manager, replace(settings, keeper=usual)) as running_hook:
        await asyncio.to_thread(pair.here.offload, podStrategy="Remote")
        await asyncio.to_thread(pair.until, "Ready", reason="Offloaded")

        async def prepared() -> bool:
            """The API server learns of registration and label a moment later."""
            tried = await client.create(PODS, pod("probe"), namespace=pair.here.name, dry_run=True)
            return names.STRATEGY_MARK in (tried["metadata"].get("annotations") or {})

        await until(prepared, what="the webhook to be asked")
        await client.create(PODS, pod("one"), namespace=pair.here.name)
        found = await asyncio.to_thread(here.wait_for, "pod", "one", phase("Running"), timeout=LONG)
        assert found["spec"]["nodeName"] == "virtual-1"
        assert await asyncio.to_thread(pair.provider.exists, "pod", "one")
        assert pair.condition("PodsPrepared")["status"] == "True"
    await running_hook.webhook.keeper.unregister()


def test_a_runtime_class_offloads_a_pod_without_a_webhook(pair: Pair) -> None:
    here = pair.here.kubectl
    here.run("apply", "--server-side", "-f", str(ROOT / "deploy/manager/consumer/runtimeclass.yaml"))
    pair.here.offload(podStrategy="Local")
    pair.until("Ready", reason="Offloaded")

    def admitted() -> bool:
        """The API server's RuntimeClass admission learns of a new class a moment later."""
        pair.here.pod("one", runtimeClassName="isthmus")
        return True

    eventually(admitted, what="the class to be known", timeout=LONG)
    here.wait_for("pod", "one", phase("Running"), timeout=LONG)
    assert here.get("pod", "one")["spec"]["nodeName"] == "virtual-1"
    assert "runtimeClassName" not in pair.provider.get("pod", "one")["spec"]


def test_virtual_kubelets_may_do_what_they_must_where_they_must(pair: Pair) -> None:
    """VirtualNodes that nothing runs for: it is about the rights of their nodes."""
    here = pair.here.kubectl
    name = f"v-{uuid.uuid4().hex[:8]}"
    spec = {"provider": PROVIDER, "kubeconfigSecret": {"name": "none"}}
    kind = {"apiVersion": "offloading.isthmus.dev/v1alpha1", "kind": "VirtualNode"}
    here.create({**kind, "metadata": {"name": name}, "spec": spec})
    may = ("auth", "can-i", f"--as=system:node:{name}", "--as-group=system:nodes")
    try:
        pair.here.offload()
        eventually(
            lambda: "yes" in here.run(*may, "list", "endpointslices.discovery.k8s.io"),
            what="the right there",
            timeout=LONG,
        )
        everywhere = (*may, "watch", "namespaceoffloadings.offloading.isthmus.dev", "--all-namespaces")
        eventually(lambda: "yes" in here.run(*everywhere), what="the right everywhere", timeout=LONG)
        assert b"no" in here.result(*may, "list", "endpointslices.discovery.k8s.io", "--namespace=default").stdout
        here.run("label", "rolebinding", "isthmus-kinds", "app.kubernetes.io/managed-by-")
        pair.take_back()
        pair.until_gone()
        assert here.exists("rolebinding", "isthmus-kinds"), "it is somebody else's now"
    finally:
        here.delete("virtualnode", name)


def test_a_provider_without_virtual_nodes_holds_nothing_up(pair: Pair) -> None:
    """An entry that nobody will ever answer: of a node that somebody labelled and removed."""
    here = pair.here.kubectl
    node = f"n-{uuid.uuid4().hex[:8]}"
    labels = {names.NODE_MARK: node, names.PROVIDER_LABEL: "lost", "only": node}
    here.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": labels}})
    try:
        pair.here.offload(virtualNodeSelector={"matchLabels": {"only": node}})
        pair.until("Ready", reason="ProvidersNotReady", says="lost: its virtual kubelet has not answered yet")
        said = {"providers": [{"provider": "lost", "ready": True, "reason": "Mapped"}]}
        metadata = {"name": "offloading", "namespace": pair.here.name}
        body = {"apiVersion": "offloading.isthmus.dev/v1alpha1", "kind": "NamespaceOffloading", "metadata": metadata}
        arguments = (
            "apply",
            "--server-side",
            "--subresource=status",
            "--field-manager=isthmus-provider-lost",
            "-f",
            "-",
        )
        here.run(*arguments, stdin=json.dumps({**body, "status": said}))
        pair.until("Ready", reason="Offloaded", says="lost")
        pair.take_back()
        pair.until("Ready", reason="Removing", says="lost: Mapped")
        assert pair.here.offloading()
    finally:
        here.delete("node", node)
    pair.until_gone()


def _tokens(pair: Pair, pod: str) -> list[Json]:
    """The Secrets with tokens of a pod at the provider."""
    uid = pair.here.kubectl.get("pod", pod)["metadata"]["uid"]
    return list(pair.provider.list("secrets", "-l", f"{TOKEN_FOR_LABEL}={uid}"))


def _claims(token: str) -> Json:
    middle = token.split(".")[1]
    found: Json = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    return found


def test_a_namespace_opts_in_to_service_account_tokens(pair: Pair) -> None:
    """Without that none goes; what goes is bound to the pod, lives an hour at most, and dies with the pod."""
    here = pair.here.kubectl
    pair.here.offload()
    pair.until("Ready", reason="Offloaded")
    pair.run_pod("none")
    assert _tokens(pair, "none") == []
    assert "KUBERNETES_SERVICE_HOST" not in json.dumps(pair.provider.get("pod", "none")["spec"])
    pair.here.offload(serviceAccountTokens=True)
    pair.run_pod("some")
    (kept,) = _tokens(pair, "some")
    token = base64.b64decode(kept["data"]["token"]).decode()
    claims = _claims(token)
    assert claims["exp"] - claims["iat"] <= 3600
    assert claims["kubernetes.io"]["pod"]["uid"] == here.get("pod", "some")["metadata"]["uid"]
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    assert here.create(review)["status"]["authenticated"] is True
    assert _tokens(pair, "none") == [], "it runs on as it was made"

    pair.here.offload(serviceAccountTokens=False)
    pair.run_pod("none-again")
    assert _tokens(pair, "none-again") == []
    assert len(_tokens(pair, "some")) == 1, "its pod goes on mounting it; it is renewed no more"
    here.delete("pod", "some", "--wait=false")
    here.wait_gone("pod", "some", timeout=LONG)
    pair.provider.wait_gone("secret", kept["metadata"]["name"], timeout=LONG)
    eventually(lambda: not here.create(review)["status"].get("authenticated"), what="the token to be worthless")


CANARY = "Y2FuYXJ5LWluLXRoZS1taW5l"
"""What nobody may see at the provider."""


def _names_secret(name: str) -> Json:
    return {"name": "main", "image": "isthmus.dev/none:1", "envFrom": [{"secretRef": {"name": name}}]}


def test_a35_secrets_that_no_offloaded_pod_names_are_absent(pair: Pair) -> None:
    here = pair.here.kubectl
    for name in ("named", "canary"):
        data = {"key": CANARY if name == "canary" else "eA=="}
        here.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})
    pair.here.offload()
    pair.until("Ready", reason="Offloaded")
    pair.here.pod("local", containers=[_names_secret("canary")])
    pair.run_pod("one", containers=[_names_secret("named")])
    assert pair.provider.get("secret", "named")["data"] == {"key": "eA=="}
    assert not pair.provider.exists("secret", "canary")
    everything = pair.provider.run("get", "secrets,configmaps,pods,services", "-A", "-o", "json")
    assert CANARY not in everything
    assert base64.b64decode(CANARY).decode() not in everything


def test_a35_what_a_rule_held_back_goes_when_it_is_allowed(pair: Pair) -> None:
    """The pod that waits for it is looked at again at once."""
    here = pair.here.kubectl
    here.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "data": {"key": CANARY}})
    pair.here.offload(reflection={"secrets": {"deny": ["d*"]}})
    pair.until("Ready", reason="Offloaded")
    pair.here.pod("one", containers=[_names_secret("db")], **SELECTED)
    here.wait_for("pod", "one", lambda found: "must not leave" in found["status"].get("message", ""), timeout=LONG)
    assert not pair.provider.exists("secret", "db")
    pair.here.offload(reflection={})
    here.wait_for("pod", "one", phase("Running"), timeout=LONG)
    assert pair.provider.exists("secret", "db")
