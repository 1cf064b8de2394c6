"""What Kubernetes' own controllers make runs across, ends, comes back and is drained as on any node."""

import json
import time
from typing import Any

from deploy import stack
from tests import manifests as m
from tests.kubectl import Kubectl, eventually, phase, ready


def ready_pods(kubectl: Kubectl, app: str) -> list[dict[str, Any]]:
    return [
        p for p in kubectl.list("pods", "-l", f"app={app}") if ready(p) and not p["metadata"].get("deletionTimestamp")
    ]


def job_done(found: dict[str, Any], kind: str) -> bool:
    return any(c["type"] == kind and c["status"] == "True" for c in found.get("status", {}).get("conditions") or [])


def test_a_deployment_spreads_over_a_real_and_a_virtual_node(consumer: Kubectl, provider: Kubectl) -> None:
    small = m.container(resources={"requests": {"cpu": "10m"}})
    spread = {
        "maxSkew": 4,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "wide"}},
    }
    consumer.apply(
        m.workload("Deployment", "wide", small, replicas=20, virtual=False, topologySpreadConstraints=[spread])
    )
    pods = eventually(
        lambda: found if len(found := ready_pods(consumer, "wide")) == 20 else None, what="20 ready pods", timeout=120
    )
    assert pods is not None
    nodes = {p["spec"]["nodeName"] for p in pods}
    assert nodes == {"consumer-node", "virtual-1"}
    remote = {p["metadata"]["name"] for p in provider.list("pods")}
    assert remote == {p["metadata"]["name"] for p in pods if p["spec"]["nodeName"] == "virtual-1"}


def test_scale_wait_and_rollout_restart(consumer: Kubectl) -> None:
    consumer.apply(m.workload("Deployment", "web", replicas=1))
    consumer.run("wait", "deployment/web", "--for=condition=Available", "--timeout=60s", timeout=70)
    before = {p["metadata"]["uid"] for p in ready_pods(consumer, "web")}
    consumer.run("scale", "deployment/web", "--replicas=3")
    consumer.run("rollout", "status", "deployment/web", "--timeout=60s", timeout=70)
    assert len(ready_pods(consumer, "web")) == 3
    consumer.run("rollout", "restart", "deployment/web")
    consumer.run("rollout", "status", "deployment/web", "--timeout=90s", timeout=100)
    eventually(
        lambda: not before & {p["metadata"]["uid"] for p in consumer.list("pods", "-l", "app=web")},
        what="the old pods to be gone",
    )


def test_f29_a_stateful_pod_returns_under_its_name_and_never_twice(consumer: Kubectl, provider: Kubectl) -> None:
    slow = m.shell("main", "trap 'sleep 2; exit 0' TERM; while :; do sleep 0.1; done")
    consumer.apply(m.workload("StatefulSet", "db", slow, terminationGracePeriodSeconds=10))
    first = consumer.wait_for("pod", "db-0", ready)
    watch = provider.popen("get", "pods", "--watch", "--output-watch-events", "-o", "json", stdout=-1)
    try:
        consumer.delete("pod", "db-0", "--wait=false")
        second = consumer.wait_for(
            "pod", "db-0", lambda p: ready(p) and p["metadata"]["uid"] != first["metadata"]["uid"]
        )
    finally:
        watch.terminate()
        output, _ = watch.communicate(timeout=10)
    alive: set[str] = set()
    for event in _events(output.decode()):
        uid = event["object"]["metadata"]["uid"]
        alive.discard(uid) if event["type"] == "DELETED" else alive.add(uid)
        assert len(alive) <= 1, "two remote pods of one name at once"
    assert second["metadata"]["uid"] != first["metadata"]["uid"]


def _events(text: str) -> list[dict[str, Any]]:
    """A stream of JSON documents, the last of which may be cut."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            break
        found.append(value)
        while at < len(text) and text[at].isspace():
            at += 1
    return found


def test_a_job_completes_and_keeps_its_logs(consumer: Kubectl, provider: Kubectl) -> None:
    work = m.shell("main", "echo done by $HOSTNAME")
    consumer.apply(m.job("sum", work, spec={"completions": 4, "parallelism": 2}))
    found = consumer.wait_for("job", "sum", lambda j: job_done(j, "Complete"), timeout=90)
    assert found["status"]["succeeded"] == 4
    names = [p["metadata"]["name"] for p in consumer.list("pods", "-l", "app=sum")]
    assert len(names) == 4
    for name in names:
        said = consumer.run("logs", name)
        assert said == f"done by {name}\n", (
            f"the provider says {provider.run('logs', name)!r}, and isthmus then {consumer.run('logs', name)!r}"
        )


def test_a_failing_job_backs_off_and_fails(consumer: Kubectl) -> None:
    consumer.apply(m.job("bad", m.shell("main", "exit 3"), spec={"backoffLimit": 1}))
    consumer.wait_for("job", "bad", lambda j: job_done(j, "Failed"), timeout=90)
    pods = consumer.list("pods", "-l", "app=bad")
    codes = {p["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] for p in pods}
    assert codes == {3}
    assert len(pods) == 2


def test_a_deleted_job_leaves_nothing_at_the_provider(consumer: Kubectl, provider: Kubectl) -> None:
    consumer.apply(m.job("long", m.shell("main", "sleep 600")))
    eventually(lambda: ready_pods(consumer, "long"), what="the job's pod")
    consumer.delete("job", "long", "--wait=true", timeout=60)
    eventually(lambda: not consumer.list("pods", "-l", "app=long"), what="the job's pod to go")
    assert not provider.list("pods", "-l", "app=long")


def test_a_cron_job_runs(consumer: Kubectl) -> None:
    cron = m.job("tick", m.shell("main", "echo tick"))
    cron_job = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "tick"},
        "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": cron["spec"]}},
    }
    consumer.apply(cron_job)
    consumer.run("create", "job", "tick-now", "--from=cronjob/tick")
    consumer.wait_for("job", "tick-now", lambda j: job_done(j, "Complete"))


def test_init_and_sidecar_containers_run_in_order(consumer: Kubectl) -> None:
    shared = {"name": "shared", "mountPath": "/shared"}
    init = m.shell("init", "echo from-init > /shared/init", volumeMounts=[shared])
    sidecar = m.shell("side", "while :; do date +%s > /shared/side; sleep 1; done", volumeMounts=[shared])
    sidecar["restartPolicy"] = "Always"
    main = m.shell(
        "main", "cat /shared/init; while [ ! -s /shared/side ]; do sleep 0.1; done; echo saw-side; sleep 600"
    )
    main["volumeMounts"] = [shared]
    consumer.create(m.pod("three", main, initContainers=[init, sidecar], volumes=[{"name": "shared", "emptyDir": {}}]))
    found = consumer.wait_for("pod", "three", ready)
    eventually(lambda: consumer.run("logs", "three", "-c", "main") == "from-init\nsaw-side\n", what="main's log")
    init_statuses = {c["name"]: c for c in found["status"]["initContainerStatuses"]}
    assert init_statuses["init"]["state"]["terminated"]["exitCode"] == 0
    assert init_statuses["side"]["started"] is True


def test_a_daemon_set_does_not_land_on_a_virtual_node(consumer: Kubectl) -> None:
    daemon = m.workload("DaemonSet", "agent", virtual=False, tolerations=[])
    consumer.apply(daemon)
    eventually(lambda: ready_pods(consumer, "agent"), what="the daemon on the real node")
    assert {p["spec"]["nodeName"] for p in consumer.list("pods", "-l", "app=agent")} == {"consumer-node"}


def test_cordon_and_drain(consumer: Kubectl, vnode: stack.VirtualNode) -> None:
    consumer.apply(m.workload("Deployment", "moving", replicas=2, virtual=False))
    consumer.apply(m.workload("Deployment", "pinned", replicas=1))
    eventually(lambda: ready_pods(consumer, "pinned"), what="a pod on the virtual node")
    try:
        consumer.run("cordon", vnode.name)
        consumer.run(
            "drain", vnode.name, "--pod-selector=app in (moving,pinned)", "--force", "--timeout=60s", timeout=70
        )
        assert not [
            p
            for p in consumer.list("pods")
            if p["spec"].get("nodeName") == vnode.name and not p["metadata"].get("deletionTimestamp")
        ]
        eventually(lambda: len(ready_pods(consumer, "moving")) == 2, what="the moved pods")
        assert not ready_pods(consumer, "pinned")
    finally:
        consumer.run("uncordon", vnode.name)
    eventually(lambda: ready_pods(consumer, "pinned"), what="the pinned pod to come back")


def test_force_delete_removes_the_remote_pod_too(consumer: Kubectl, provider: Kubectl) -> None:
    consumer.create(m.pod("stubborn", m.shell("main", "trap '' TERM; while :; do sleep 1; done")))
    consumer.wait_for("pod", "stubborn", ready)
    consumer.delete("pod", "stubborn", "--force", "--grace-period=0")
    consumer.wait_gone("pod", "stubborn")
    provider.wait_gone("pod", "stubborn")


def test_graceful_deletion_waits_for_the_remote_pod(consumer: Kubectl, provider: Kubectl) -> None:
    slow = m.shell("main", "trap 'sleep 3; echo bye; exit 0' TERM; while :; do sleep 0.1; done")
    consumer.create(m.pod("slow", slow, terminationGracePeriodSeconds=20))
    consumer.wait_for("pod", "slow", ready)
    began = time.monotonic()
    consumer.delete("pod", "slow", "--wait=false")
    gone = 0.0
    while consumer.exists("pod", "slow"):
        assert time.monotonic() - began < 60, "the pod does not go"
        time.sleep(0.1)
    gone = time.monotonic() - began
    assert gone >= 3, "it went before its preStop work was done"
    assert not provider.exists("pod", "slow")


def test_exit_codes_and_termination_messages_come_back(consumer: Kubectl) -> None:
    failing = m.shell("main", "echo 'out of cheese' > /dev/termination-log; exit 42")
    consumer.create(m.pod("ended", failing, restartPolicy="Never"))
    found = consumer.wait_for("pod", "ended", phase("Failed"))
    terminated = found["status"]["containerStatuses"][0]["state"]["terminated"]
    assert terminated["exitCode"] == 42
    assert terminated["message"] == "out of cheese\n"


def test_restarts_are_counted_and_previous_logs_kept(consumer: Kubectl) -> None:
    consumer.create(m.pod("flaky", m.shell("main", "echo life; sleep 1; exit 1")))
    found = consumer.wait_for("pod", "flaky", lambda p: p["status"]["containerStatuses"][0]["restartCount"] >= 1)
    assert found["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 1
    assert consumer.run("logs", "flaky", "--previous") == "life\n"


def test_the_providers_warnings_are_told_on_the_consumers_pod(consumer: Kubectl) -> None:
    consumer.create(m.pod("nowhere", {**m.container(), "image": "isthmus.invalid/none:1", "imagePullPolicy": "Never"}))
    eventually(
        lambda: [
            e
            for e in consumer.list("events", "--field-selector=involvedObject.name=nowhere,type=Warning")
            if e["reason"] in ("Failed", "ErrImageNeverPull")
        ],
        what="the warning",
    )
    consumer.wait_for("pod", "nowhere", lambda p: _waiting(p) == "ErrImageNeverPull", what="the reason in the status")


def _waiting(pod: dict[str, Any]) -> str | None:
    statuses = pod["status"].get("containerStatuses") or [{}]
    reason: str | None = statuses[0].get("state", {}).get("waiting", {}).get("reason")
    return reason


def test_a_pod_in_perfect_health_costs_two_events_of_ours(consumer: Kubectl) -> None:
    consumer.create(m.pod("quiet"))
    consumer.wait_for("pod", "quiet", ready)
    ours = eventually(
        lambda: [
            e
            for e in consumer.list("events", "--field-selector=involvedObject.name=quiet")
            if e["source"].get("component") == "isthmus-virtual-kubelet"
        ],
        what="the gathered event",
    )
    assert len(ours) <= 2
    assert "Created container" in ours[0]["message"]


def test_top_shows_offloaded_pods_and_the_virtual_node(consumer: Kubectl) -> None:
    consumer.create(m.pod("busy", m.shell("main", "while :; do :; done", resources={"limits": {"cpu": "100m"}})))
    consumer.wait_for("pod", "busy", ready)
    shown = eventually(lambda: consumer.run("top", "pod", "busy", "--no-headers"), what="kubectl top pod", timeout=120)
    assert shown.split()[0] == "busy"
    nodes = eventually(lambda: _top_of_node(consumer), what="kubectl top node", timeout=60)
    assert nodes[1].endswith("m")


def _top_of_node(consumer: Kubectl) -> list[str]:
    fields = consumer.run("top", "node", "virtual-1", "--no-headers").split()
    return fields if fields[1] != "<unknown>" else []


def test_the_autoscaler_scales_offloaded_pods_on_cpu(consumer: Kubectl) -> None:
    burning = m.shell("main", "while :; do :; done", resources={"requests": {"cpu": "50m"}, "limits": {"cpu": "100m"}})
    consumer.apply(m.workload("Deployment", "hot", burning, replicas=1))
    eventually(lambda: ready_pods(consumer, "hot"), what="the pod")
    consumer.run("autoscale", "deployment/hot", "--min=1", "--max=3", "--cpu-percent=50")
    eventually(lambda: len(ready_pods(consumer, "hot")) >= 2, what="the autoscaler to add pods", timeout=180)
