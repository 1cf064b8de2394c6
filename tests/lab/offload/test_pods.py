"""What a pod's spec asks for happens at the provider, and what it sees of itself is the consumer's view."""

import json
import time
from typing import Any

from deploy import stack
from tests import manifests as m
from tests.kubectl import Kubectl, eventually, phase, ready

SLEEP = "trap 'exit 0' TERM; sleep 600 & wait"


def status_of(pod: dict[str, Any], container: str = "main") -> dict[str, Any]:
    """The status of a container; empty as long as there is none."""
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return next((s for s in statuses if s["name"] == container), {})


def condition(pod: dict[str, Any], kind: str) -> dict[str, Any]:
    """A condition of a pod; empty if it has none."""
    return next((c for c in pod["status"].get("conditions") or [] if c["type"] == kind), {})


def field_env(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def field_item(path: str, field: str) -> dict[str, Any]:
    return {"path": path, "fieldRef": {"fieldPath": field}}


def test_the_downward_api_shows_the_consumers_values(
    consumer: Kubectl, provider: Kubectl, vnode: stack.VirtualNode
) -> None:
    paths = {
        "NAME": "metadata.name",
        "NAMESPACE": "metadata.namespace",
        "POD_UID": "metadata.uid",
        "NODE": "spec.nodeName",
        "ACCOUNT": "spec.serviceAccountName",
        "HOST_IP": "status.hostIP",
        "POD_IP": "status.podIP",
        "COLOUR": "metadata.labels['colour']",
        "NOTE": "metadata.annotations['note']",
    }
    env = [field_env(name, path) for name, path in paths.items()]
    env.append({"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}})
    items = [
        field_item("namespace", "metadata.namespace"),
        field_item("uid", "metadata.uid"),
        field_item("labels", "metadata.labels"),
        field_item("annotations", "metadata.annotations"),
        field_item("colour", "metadata.labels['colour']"),
    ]
    main = m.shell("main", f"env; {SLEEP}", env=env, volumeMounts=[{"name": "me", "mountPath": "/me"}])
    main["resources"] = {"limits": {"cpu": "50m", "memory": "64Mi"}}
    meta = {"labels": {"colour": "red"}, "annotations": {"note": "cost: $(NAME) $$5"}}
    consumer.run("create", "serviceaccount", "worker")
    consumer.create(
        m.pod(
            "seen",
            main,
            metadata=meta,
            serviceAccountName="worker",
            volumes=[{"name": "me", "downwardAPI": {"items": items}}],
        )
    )
    pod = consumer.wait_for("pod", "seen", ready)
    shown = dict(line.split("=", 1) for line in consumer.run("logs", "seen").splitlines() if "=" in line)
    wanted = {
        "NAME": "seen",
        "NAMESPACE": consumer.namespace,
        "POD_UID": pod["metadata"]["uid"],
        "NODE": vnode.name,
        "ACCOUNT": "worker",
        "HOST_IP": vnode.host.ip,
        "POD_IP": pod["status"]["podIP"],
        "COLOUR": "red",
        "NOTE": "cost: $(NAME) $$5",
        "CPU": "50",
    }
    assert {name: shown.get(name) for name in wanted} == wanted
    assert pod["status"]["hostIP"] == vnode.host.ip

    def file(name: str) -> str:
        return consumer.run("exec", "seen", "--", "cat", f"/me/{name}")

    assert file("namespace") == consumer.namespace
    assert file("uid") == pod["metadata"]["uid"]
    assert file("labels") == 'colour="red"'
    assert "isthmus" not in file("annotations")
    consumer.run("label", "pod", "seen", "colour=blue", "--overwrite")
    consumer.run("annotate", "pod", "seen", "note-", "more=later")
    eventually(lambda: file("colour") == "blue", what="the new label in the volume")
    eventually(lambda: 'more="later"' in file("annotations"), what="the new annotation in the volume")
    assert "note=" not in file("annotations")
    assert file("labels") == 'colour="blue"'
    remote = provider.get("pod", "seen")["metadata"]
    assert remote["labels"]["colour"] == "blue"
    assert remote["annotations"]["more"] == "later"
    assert "note" not in remote["annotations"]


def test_names_hosts_and_dns_are_as_asked(consumer: Kubectl) -> None:
    script = f"hostname; cat /etc/hosts; cat /etc/resolv.conf; {SLEEP}"
    consumer.create(
        m.pod(
            "named",
            m.shell("main", script),
            hostname="front",
            subdomain="web",
            hostAliases=[{"ip": "203.0.113.7", "hostnames": ["far.example"]}],
            dnsPolicy="None",
            dnsConfig={
                "nameservers": ["203.0.113.53"],
                "searches": ["corp.example"],
                "options": [{"name": "ndots", "value": "3"}],
            },
        )
    )
    consumer.wait_for("pod", "named", ready)
    log = consumer.run("logs", "named")
    assert log.startswith("front\n")
    assert "203.0.113.7\tfar.example" in log
    assert "nameserver 203.0.113.53" in log
    assert "search corp.example" in log
    assert "options ndots:3" in log


def test_empty_dirs_are_shared_between_containers_and_outlive_a_restart(consumer: Kubectl) -> None:
    mount = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    first = m.shell("main", f"if [ -e /shared/seen ]; then {SLEEP}; fi; echo data > /shared/seen; exit 1", **mount)
    second = m.shell("reader", f"mount | grep ' /shared '; {SLEEP}", **mount)
    volumes = [{"name": "shared", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]
    consumer.create(m.pod("sharing", first, second, volumes=volumes))
    consumer.wait_for("pod", "sharing", lambda p: ready(p) and status_of(p)["restartCount"] == 1)
    assert consumer.run("exec", "sharing", "-c", "reader", "--", "cat", "/shared/seen") == "data\n"
    assert "tmpfs" in consumer.run("logs", "sharing", "-c", "reader")


def test_readiness_and_startup_probes_gate_readiness(consumer: Kubectl) -> None:
    probe = {"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    started = {"exec": {"command": ["test", "-e", "/tmp/started"]}, "periodSeconds": 1, "failureThreshold": 100}
    consumer.create(m.pod("probed", m.shell("main", SLEEP, readinessProbe=probe, startupProbe=started)))
    pod = consumer.wait_for("pod", "probed", lambda p: p["status"]["phase"] == "Running")
    assert status_of(pod)["started"] is False
    consumer.run("exec", "probed", "--", "touch", "/tmp/started")
    pod = consumer.wait_for("pod", "probed", lambda p: status_of(p)["started"] is True)
    assert not ready(pod)
    consumer.run("exec", "probed", "--", "touch", "/tmp/ready")
    consumer.wait_for("pod", "probed", ready)
    consumer.run("exec", "probed", "--", "rm", "/tmp/ready")
    pod = consumer.wait_for("pod", "probed", lambda p: not ready(p))
    assert condition(pod, "ContainersReady")["reason"] == "ContainersNotReady"
    assert status_of(pod)["restartCount"] == 0


def test_a_failing_liveness_probe_restarts_the_container(consumer: Kubectl) -> None:
    probe = {"exec": {"command": ["test", "!", "-e", "/tmp/sick"]}, "periodSeconds": 1, "failureThreshold": 1}
    consumer.create(m.pod("alive", m.shell("main", SLEEP, livenessProbe=probe)))
    consumer.wait_for("pod", "alive", ready)
    consumer.run("exec", "alive", "--", "touch", "/tmp/sick")
    consumer.wait_for("pod", "alive", lambda p: status_of(p)["restartCount"] == 1 and ready(p))
    eventually(
        lambda: any(e["reason"] == "Unhealthy" for e in consumer.list("events")), what="the probe's warning here"
    )


def test_readiness_gates_are_the_consumers(consumer: Kubectl, provider: Kubectl) -> None:
    consumer.create(m.pod("gated", m.shell("main", SLEEP), readinessGates=[{"conditionType": "example.com/lb"}]))
    pod = consumer.wait_for("pod", "gated", lambda p: condition(p, "ContainersReady")["status"] == "True")
    assert condition(pod, "Ready")["status"] == "False"
    assert condition(pod, "Ready")["reason"] == "ReadinessGatesNotReady"
    assert ready(provider.get("pod", "gated"))
    gate = {"status": {"conditions": [{"type": "example.com/lb", "status": "True"}]}}
    consumer.run("patch", "pod", "gated", "--subresource=status", "-p", json.dumps(gate))
    pod = consumer.wait_for("pod", "gated", ready)
    assert condition(pod, "example.com/lb")["status"] == "True"


def test_hooks_run_after_start_and_before_stop(consumer: Kubectl) -> None:
    hooks = {
        "postStart": {"exec": {"command": ["sh", "-c", "echo after-start > /proc/1/fd/1"]}},
        "preStop": {"exec": {"command": ["sh", "-c", "echo before-stop > /proc/1/fd/1; sleep 2"]}},
    }
    consumer.create(m.pod("hooked", m.shell("main", SLEEP, lifecycle=hooks), terminationGracePeriodSeconds=20))
    consumer.wait_for("pod", "hooked", ready)
    assert consumer.run("logs", "hooked") == "after-start\n"
    follow = consumer.popen("logs", "-f", "hooked", stdout=-1)
    try:
        began = time.monotonic()
        consumer.delete("pod", "hooked", "--wait=false")
        output, _ = follow.communicate(timeout=40)
        consumer.wait_gone("pod", "hooked")
        assert time.monotonic() - began >= 2, "it did not wait for its hook"
    finally:
        follow.kill()
    assert output == b"after-start\nbefore-stop\n"


def test_restart_policies_are_kept(consumer: Kubectl) -> None:
    twice = "if [ -e /shared/seen ]; then exit 0; fi; touch /shared/seen; exit 1"
    mount = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    volumes = [{"name": "shared", "emptyDir": {}}]
    consumer.create(m.pod("on-failure", m.shell("main", twice, **mount), restartPolicy="OnFailure", volumes=volumes))
    consumer.create(m.pod("never", m.shell("main", "exit 4"), restartPolicy="Never"))
    consumer.create(m.pod("always", m.shell("main", "exit 0"), restartPolicy="Always"))
    failed = consumer.wait_for("pod", "never", phase("Failed"))
    assert status_of(failed)["restartCount"] == 0
    done = consumer.wait_for("pod", "on-failure", phase("Succeeded"))
    assert status_of(done)["restartCount"] == 1
    assert status_of(done)["state"]["terminated"]["exitCode"] == 0
    consumer.wait_for("pod", "always", lambda p: status_of(p)["restartCount"] >= 1)


def test_a_remote_pod_deleted_at_the_provider_comes_back(consumer: Kubectl, provider: Kubectl) -> None:
    consumer.create(m.pod("steady", m.shell("main", SLEEP)))
    before = consumer.wait_for("pod", "steady", ready)
    provider.delete("pod", "steady")
    after = consumer.wait_for("pod", "steady", lambda p: ready(p) and status_of(p)["restartCount"] == 1)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["phase"] == "Running"
    eventually(
        lambda: any(e["reason"] == "RemotePodLost" for e in consumer.list("events")), what="the event about its loss"
    )


def test_the_last_of_the_log_is_the_termination_message_of_a_failure(consumer: Kubectl) -> None:
    failing = m.shell("main", "echo all is lost; exit 1", terminationMessagePolicy="FallbackToLogsOnError")
    consumer.create(m.pod("telling", failing, restartPolicy="Never"))
    pod = consumer.wait_for("pod", "telling", phase("Failed"))
    assert status_of(pod)["state"]["terminated"]["message"] == "all is lost\n"


def test_the_quality_of_service_is_the_pods_own(consumer: Kubectl, provider: Kubectl) -> None:
    amounts = {"cpu": "10m", "memory": "16Mi"}
    kinds: dict[str, dict[str, Any]] = {
        "Guaranteed": {"limits": amounts, "requests": amounts},
        "Burstable": {"requests": amounts},
        "BestEffort": {},
    }
    for kind, resources in kinds.items():
        consumer.create(m.pod(kind.lower(), m.shell("main", SLEEP, resources=resources)))
    for kind in kinds:
        assert consumer.wait_for("pod", kind.lower(), ready)["status"]["qosClass"] == kind
        assert provider.get("pod", kind.lower())["status"]["qosClass"] == kind


def test_a_deadline_ends_the_pod_also_one_set_later(consumer: Kubectl) -> None:
    consumer.create(m.pod("timed", m.shell("main", SLEEP), activeDeadlineSeconds=4, restartPolicy="Never"))
    consumer.create(m.pod("later", m.shell("main", SLEEP), restartPolicy="Never"))
    consumer.wait_for("pod", "later", ready)
    consumer.run("patch", "pod", "later", "-p", '{"spec":{"activeDeadlineSeconds":1}}')
    for name in ("timed", "later"):
        pod = consumer.wait_for("pod", name, phase("Failed"))
        assert pod["status"]["reason"] == "DeadlineExceeded"
