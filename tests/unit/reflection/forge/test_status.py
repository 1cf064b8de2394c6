from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from reflection.forge import names
from reflection.forge.model import ForgeContext, Refused
from reflection.forge.pod import forge_pod
from reflection.forge.status import forge_status, lost_status, recorded_status, refused_status, status_patch

Json = dict[str, Any]
NOW = "2026-11-22T12:00:00Z"


def remote_of(pod: Json, status: Json, context: ForgeContext) -> Json:
    body = forge_pod(pod, context=context).body
    return {**body, "metadata": {**body["metadata"], "generation": 1}, "status": status}


def wanted_for(pod: Json, status: Json, context: ForgeContext, **options: Any) -> Json:
    return forge_status(pod, remote_of(pod, status, context), context=context, now=NOW, **options)


def by_type(status: Json) -> Json:
    return {entry["type"]: entry for entry in status["conditions"]}


def merged(status: Json, patch: Json | None) -> Json:
    """Apply a status patch as the API server does, as far as these patches go."""
    out = dict(status)
    for key, value in (patch or {"status": {}})["status"].items():
        if value is None:
            out.pop(key, None)
        elif key == "conditions":
            out[key] = merged_conditions(out.get(key, []), value)
        elif key in ("podIPs", "hostIPs"):
            assert value[0] == {"$patch": "replace"}
            out[key] = value[1:]
        else:
            out[key] = value
    return out


def merged_conditions(before: list[Json], patch: list[Json]) -> list[Json]:
    found = {entry["type"]: entry for entry in before}
    for entry in patch:
        if entry.get("$patch") == "delete":
            del found[entry["type"]]
            continue
        old = found.get(entry["type"], {})
        both = {**old, **entry}
        both.setdefault("observedGeneration", None)
        both["observedGeneration"] = both["observedGeneration"] or old.get("observedGeneration")
        found[entry["type"]] = {key: value for key, value in both.items() if value is not None}
    return list(found.values())


def test_golden_status(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    wanted = wanted_for(pod, remote_status, context)
    conditions = by_type(wanted)
    assert list(conditions) == ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"]
    assert conditions["PodScheduled"] is pod["status"]["conditions"][0]
    assert conditions["Ready"] == {
        "type": "Ready",
        "status": "True",
        "lastTransitionTime": "2026-11-22T10:00:03Z",
        "observedGeneration": 1,
    }
    del wanted["conditions"]
    assert wanted == {
        "phase": "Running",
        "startTime": "2026-11-22T10:00:01Z",
        "observedGeneration": 1,
        "hostIP": "198.18.0.9",
        "hostIPs": [{"ip": "198.18.0.9"}, {"ip": "fd00::9"}],
        "podIP": "10.244.1.9",
        "podIPs": [{"ip": "10.244.1.9"}],
        "containerStatuses": remote_status["containerStatuses"],
    }


def test_patch_has_only_what_changed_and_then_nothing(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    patch = status_patch(pod["status"], wanted_for(pod, remote_status, context))
    assert patch is not None
    assert "PodScheduled" not in json.dumps(patch)
    pod["status"] = merged(pod["status"], patch)
    assert status_patch(pod["status"], wanted_for(pod, remote_status, context)) is None

    remote_status["containerStatuses"][0]["ready"] = False
    for entry in remote_status["conditions"]:
        if entry["type"] in ("Ready", "ContainersReady"):
            entry.update(status="False", reason="ContainersNotReady", message="web", lastTransitionTime=NOW)
    patch = status_patch(pod["status"], wanted_for(pod, remote_status, context))
    assert patch is not None
    assert patch["status"].keys() == {"containerStatuses", "conditions"}
    assert [entry["type"] for entry in patch["status"]["conditions"]] == ["ContainersReady", "Ready"]

    pod["status"] = merged(pod["status"], patch)
    for entry in remote_status["conditions"]:
        if entry["type"] in ("Ready", "ContainersReady"):
            entry.update(status="True", lastTransitionTime="2026-11-22T12:30:00Z")
            del entry["reason"], entry["message"]
    patch = status_patch(pod["status"], wanted_for(pod, remote_status, context))
    assert patch is not None
    assert patch["status"]["conditions"][0] == {
        "type": "ContainersReady",
        "status": "True",
        "lastTransitionTime": "2026-11-22T12:30:00Z",
        "observedGeneration": 1,
        "reason": None,
        "message": None,
    }


def test_addresses_are_replaced_not_merged(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    pod["status"] = merged(pod["status"], status_patch(pod["status"], wanted_for(pod, remote_status, context)))
    remote_status["podIP"] = "10.244.1.10"
    remote_status["podIPs"] = [{"ip": "10.244.1.10"}]
    patch = status_patch(pod["status"], wanted_for(pod, remote_status, context))
    assert patch == {"status": {"podIP": "10.244.1.10", "podIPs": [{"$patch": "replace"}, {"ip": "10.244.1.10"}]}}
    del remote_status["podIP"], remote_status["podIPs"]
    patch = status_patch(pod["status"], wanted_for(pod, remote_status, context))
    assert patch == {"status": {"podIP": None, "podIPs": None}}


def test_fields_an_older_consumer_does_not_store_cause_no_writes(
    pod: Json, remote_status: Json, context: ForgeContext
) -> None:
    wanted = wanted_for(pod, remote_status, context)
    stored = merged(pod["status"], status_patch(pod["status"], wanted))
    del stored["observedGeneration"]
    for entry in stored["conditions"]:
        entry.pop("observedGeneration", None)
    for key in ("user", "volumeMounts"):
        del stored["containerStatuses"][0][key]
    assert status_patch(stored, wanted) is None


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
@pytest.mark.parametrize("reported", ["Pending", "Running", "Succeeded", "Failed", "Unknown", "nonsense", None, 7])
def test_terminal_phase_stays(pod: Json, remote_status: Json, context: ForgeContext, phase: str, reported: Any) -> None:
    remote_status["phase"] = phase
    pod["status"] = merged(pod["status"], status_patch(pod["status"], wanted_for(pod, remote_status, context)))
    remote_status["phase"] = reported
    remote_status["podIP"] = "10.9.9.9"
    wanted = wanted_for(pod, remote_status, context)
    assert wanted["phase"] == phase
    if reported != phase and reported in ("Pending", "Running", "Succeeded", "Failed", "Unknown"):
        assert status_patch(pod["status"], wanted) is None


def test_restart_counts_never_fall_and_have_a_base(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    body = forge_pod(pod, context=context, restart_base={"web": 5}).body
    assert json.loads(body["metadata"]["annotations"][names.RESTART_BASE]) == {"web": 5}
    remote = {**body, "status": remote_status}
    remote_status["containerStatuses"][0]["restartCount"] = 2
    wanted = forge_status(pod, remote, context=context, now=NOW)
    assert wanted["containerStatuses"][0]["restartCount"] == 7
    pod["status"]["containerStatuses"] = wanted["containerStatuses"]
    remote_status["containerStatuses"][0]["restartCount"] = 0
    wanted = forge_status(pod, remote, context=context, now=NOW)
    assert wanted["containerStatuses"][0]["restartCount"] == 7


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"web": -4}', '{"web": "x"}', '{"web": 1e400}'])
def test_damaged_restart_base_counts_nothing(pod: Json, remote_status: Json, context: ForgeContext, text: str) -> None:
    remote = remote_of(pod, remote_status, context)
    remote["metadata"]["annotations"][names.RESTART_BASE] = text
    wanted = forge_status(pod, remote, context=context, now=NOW)
    assert wanted["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.parametrize(
    ("policy", "code", "may"),
    [("Always", 0, True), ("OnFailure", 1, True), ("OnFailure", 0, False), ("Never", 1, False), ("Never", 0, False)],
)
def test_terminated_containers_stay_so_if_they_may_not_restart(
    pod: Json, remote_status: Json, context: ForgeContext, policy: str, code: int, may: bool
) -> None:
    pod["spec"]["restartPolicy"] = policy
    ended = {**remote_status["containerStatuses"][0], "state": {"terminated": {"exitCode": code}}}
    pod["status"]["containerStatuses"] = [ended]
    state = wanted_for(pod, remote_status, context)["containerStatuses"][0]["state"]
    assert ("running" in state) is may


def test_container_rules_decide_on_restart(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    pod["spec"]["restartPolicy"] = "Never"
    rule = {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}
    pod["spec"]["containers"][0].update(restartPolicy="Never", restartPolicyRules=[rule])
    for code, may in ((42, True), (1, False)):
        ended = {**remote_status["containerStatuses"][0], "state": {"terminated": {"exitCode": code}}}
        pod["status"]["containerStatuses"] = [ended]
        assert ("running" in wanted_for(pod, remote_status, context)["containerStatuses"][0]["state"]) is may


def test_new_remote_pod_after_a_lost_one_is_not_ready(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    pod["status"] = merged(pod["status"], status_patch(pod["status"], wanted_for(pod, remote_status, context)))
    wanted = wanted_for(pod, {"phase": "Pending"}, context)
    assert by_type(wanted)["Ready"]["status"] == "False"
    assert by_type(wanted)["ContainersReady"]["lastTransitionTime"] == NOW
    container = wanted["containerStatuses"][0]
    assert container["ready"] is False
    assert container["state"] == {"waiting": {"reason": "ContainerCreating"}}


def test_only_the_consumers_containers_in_its_order(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    entry = remote_status["containerStatuses"][0]
    pod["spec"]["containers"] = [{"name": name, "image": name} for name in ("b", "a")]
    remote_status["containerStatuses"] = [{**entry, "name": name} for name in ("a", "b", "injected")]
    found = wanted_for(pod, remote_status, context)["containerStatuses"]
    assert [status["name"] for status in found] == ["b", "a"]


def test_readiness_gates_of_the_consumer_decide(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    pod["spec"]["readinessGates"] = [{"conditionType": "example.com/lb"}]
    assert "readinessGates" not in forge_pod(pod, context=context).body["spec"]
    ready = by_type(wanted_for(pod, remote_status, context))["Ready"]
    assert (ready["status"], ready["reason"]) == ("False", "ReadinessGatesNotReady")
    assert ready["message"] == 'corresponding condition of pod readiness gate "example.com/lb" does not exist.'
    gate = {"type": "example.com/lb", "status": "False"}
    pod["status"]["conditions"].append(gate)
    ready = by_type(wanted_for(pod, remote_status, context))["Ready"]
    assert ready["message"] == 'the status of pod readiness gate "example.com/lb" is not "True", but False'
    gate["status"] = "True"
    ready = by_type(wanted_for(pod, remote_status, context))["Ready"]
    assert (ready["status"], ready["lastTransitionTime"]) == ("True", NOW)
    remote_status["conditions"].append({"type": "example.com/lb", "status": "False"})
    assert by_type(wanted_for(pod, remote_status, context))["Ready"]["status"] == "True"


def test_provider_that_gave_up_a_node_makes_unready(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    for entry in remote_status["conditions"]:
        if entry["type"] == "Ready":
            entry.update(status="False", reason="NodeNotReady")
    assert by_type(wanted_for(pod, remote_status, context))["Ready"]["reason"] == "NodeNotReady"


def test_foreign_conditions_stay_and_the_providers_do_not_pass(
    pod: Json, remote_status: Json, context: ForgeContext
) -> None:
    mine = {"type": "example.com/mine", "status": "True", "lastTransitionTime": NOW}
    pod["status"]["conditions"].append(mine)
    remote_status["conditions"] = [{"type": "example.com/theirs", "status": "True"}, *remote_status["conditions"]]
    found = by_type(wanted_for(pod, remote_status, context))
    assert found["example.com/mine"] is mine
    assert "example.com/theirs" not in found


def test_resize_conditions_come_and_go(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    pending = {"type": "PodResizePending", "status": "True", "reason": "Deferred", "lastTransitionTime": NOW}
    remote_status["conditions"].append(pending)
    pod["status"] = merged(pod["status"], status_patch(pod["status"], wanted_for(pod, remote_status, context)))
    assert by_type(pod["status"])["PodResizePending"]["reason"] == "Deferred"
    remote_status["conditions"].remove(pending)
    patch = status_patch(pod["status"], wanted_for(pod, remote_status, context))
    assert patch == {"status": {"conditions": [{"$patch": "delete", "type": "PodResizePending"}]}}


def test_disruption_at_the_provider_is_told_and_the_consumers_own_stands(
    pod: Json, remote_status: Json, context: ForgeContext
) -> None:
    remote_status["conditions"].append({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByTheirs"})
    assert by_type(wanted_for(pod, remote_status, context))["DisruptionTarget"]["reason"] == "EvictionByTheirs"
    mine = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByOurs"}
    pod["status"]["conditions"].append(mine)
    assert by_type(wanted_for(pod, remote_status, context))["DisruptionTarget"] is mine


def test_unschedulable_at_the_provider_is_visible(pod: Json, context: ForgeContext) -> None:
    entry = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
    status = {"phase": "Pending", "conditions": [{**entry, "lastTransitionTime": "2026-11-22T10:00:00Z"}]}
    wanted = wanted_for(pod, status, context)
    found = by_type(wanted)
    assert found["PodScheduled"]["status"] == "True"
    assert found[names.REMOTE_SCHEDULED]["message"] == "0/3 nodes"
    assert (wanted["reason"], wanted["message"]) == ("Unschedulable", "at the provider: 0/3 nodes")
    pod["status"] = merged(pod["status"], status_patch(pod["status"], wanted))
    patch = status_patch(pod["status"], wanted_for(pod, {"phase": "Pending"}, context))
    assert patch is not None
    assert patch["status"]["conditions"] == [{"$patch": "delete", "type": names.REMOTE_SCHEDULED}]
    assert patch["status"]["reason"] is None


def test_observed_generation_is_the_consumers(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    pod["metadata"]["generation"] = 7
    assert wanted_for(pod, remote_status, context)["observedGeneration"] == 7
    assert "observedGeneration" not in wanted_for(pod, remote_status, context, in_step=False)
    remote = remote_of(pod, remote_status, context)
    remote["metadata"]["generation"] = 2
    assert "observedGeneration" not in forge_status(pod, remote, context=context, now=NOW)
    pod["status"]["observedGeneration"] = 6
    assert forge_status(pod, remote, context=context, now=NOW)["observedGeneration"] == 6


def test_start_time_is_kept(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    pod["status"]["startTime"] = "2026-11-22T09:00:00Z"
    assert wanted_for(pod, remote_status, context)["startTime"] == "2026-11-22T09:00:00Z"


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1",
        "::1",
        "169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "fd00::1%eth0",
        "224.0.0.1",
        "ff02::1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "255.255.255.255",
        "::ffff:10.0.0.1",
        "::7f00:1",
        "010.0.0.1",
        "10.0.0.1/8",
        "10.96.0.1",
        "198.18.0.9",
        "api.example.com",
        "",
        7,
        None,
        {},
    ],
)
def test_a30_addresses_that_no_pod_has_are_dropped(
    pod: Json, remote_status: Json, context: ForgeContext, ip: Any
) -> None:
    guarded = replace(context, forbidden_ips=frozenset({"10.96.0.1"}))
    for reported in ({"podIP": ip}, {"podIPs": [{"ip": ip}]}, {"podIP": ip, "podIPs": [{"ip": ip}]}):
        status = {**remote_status, "podIP": None, "podIPs": None, **reported}
        wanted = wanted_for(pod, status, guarded)
        assert "podIP" not in wanted
        assert "podIPs" not in wanted


def test_a30_translated_address_is_checked_again(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    moved = replace(context, translate={"10.244.1.9": "10.71.1.9"}.get)
    assert wanted_for(pod, remote_status, moved)["podIP"] == "10.71.1.9"
    assert "podIP" not in wanted_for(pod, remote_status, replace(context, translate=lambda _: "127.0.0.1"))
    assert "podIP" not in wanted_for(pod, remote_status, replace(context, translate=lambda _: None))
    inside = replace(context, pod_networks=(ip_network("10.244.0.0/16"),))
    assert wanted_for(pod, remote_status, inside)["podIP"] == "10.244.1.9"
    outside = replace(context, pod_networks=(ip_network("10.71.0.0/16"),))
    assert "podIP" not in wanted_for(pod, remote_status, outside)


def test_one_address_for_each_family(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    remote_status["podIPs"] = [{"ip": "10.244.1.9"}, {"ip": "10.244.1.10"}]
    assert wanted_for(pod, remote_status, context)["podIPs"] == [{"ip": "10.244.1.9"}]
    remote_status["podIPs"] = [{"ip": "10.244.1.9"}, {"ip": "FD00:0::5"}]
    assert wanted_for(pod, remote_status, context)["podIPs"] == [{"ip": "10.244.1.9"}, {"ip": "fd00::5"}]


def test_a30_flood_and_nonsense_stay_small(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    known = remote_status["conditions"]
    flood = [{"type": f"t{i}", "status": "True", "message": "x" * 100} for i in range(100_000)]
    remote_status["conditions"] = known + flood + known
    entry = remote_status["containerStatuses"][0]
    entry.update(restartCount=-3, message="m", ready="yes", lastState={"terminated": {"exitCode": 10**30}})
    entry["user"] = {"linux": {"uid": -1, "gid": 0}}
    entry["allocatedResources"] = {"cpu": "lots", "memory": "1Gi", "bad name!": "1"}
    remote_status["containerStatuses"] = [entry] + [{**entry, "name": f"c{i}"} for i in range(100_000)]
    remote_status.update(resize="x" * 100, startTime="yesterday", reason="r" * 100_000, message=["m"])
    wanted = wanted_for(pod, remote_status, context)
    assert len(json.dumps(wanted)) < 4000
    container = wanted["containerStatuses"][0]
    assert container["restartCount"] == 0
    assert container["ready"] is False
    assert container["lastState"] == {"terminated": {"exitCode": 255}}
    assert container["allocatedResources"] == {"memory": "1Gi"}
    assert "user" not in container
    assert not {"resize", "startTime", "message", "nominatedNodeName", "qosClass"} & wanted.keys()


def test_a33_control_characters_are_escaped(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    evil = "ok\x1b]0;owned\x07\u202egnp\x00"
    remote_status["message"] = evil
    remote_status["conditions"][0].update(status="False", message=evil, reason=evil)
    remote_status["containerStatuses"][0]["state"] = {"waiting": {"reason": "R\x9b31m", "message": "a\nb\tc" + evil}}
    wanted = wanted_for(pod, remote_status, context)
    assert wanted["message"] == "ok\\x1b]0;owned\\x07\\u202egnp\\x00"
    assert not any(char in json.dumps(wanted, ensure_ascii=False) for char in "\x1b\x07\u202e\x00\x9b")
    assert wanted["containerStatuses"][0]["state"]["waiting"]["reason"] == "R\\x9b31m"
    assert wanted["containerStatuses"][0]["state"]["waiting"]["message"].startswith("a\nb\tcok")


def test_lost_pod_fails_as_disrupted(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    pod["status"] = merged(pod["status"], status_patch(pod["status"], wanted_for(pod, remote_status, context)))
    wanted = lost_status(pod, reason="ProviderPodLost", message="gone", now=NOW)
    assert (wanted["phase"], wanted["reason"], wanted["message"]) == ("Failed", "ProviderPodLost", "gone")
    conditions = by_type(wanted)
    assert conditions["DisruptionTarget"]["status"] == "True"
    assert conditions["Ready"] == {"type": "Ready", "status": "False", "reason": "PodFailed", "lastTransitionTime": NOW}
    assert conditions["PodScheduled"]["status"] == "True"
    ended = wanted["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "ContainerStatusUnknown")
    pod["status"] = merged(pod["status"], status_patch(pod["status"], wanted))
    again = lost_status(pod, reason="Other", message="other", now="2026-11-22T13:00:00Z")
    assert status_patch(pod["status"], again) is None


def test_refused_pod_says_why(pod: Json, context: ForgeContext) -> None:
    refused = Refused("spec.hostNetwork", "remove it")
    wanted = refused_status(pod, refused, now=NOW)
    assert (wanted["phase"], wanted["reason"]) == ("Pending", "OffloadRefused")
    assert wanted["message"] == "spec.hostNetwork: remove it"
    assert wanted["containerStatuses"][0]["state"]["waiting"]["reason"] == "OffloadRefused"
    pod["status"] = merged(pod["status"], status_patch(pod["status"], wanted))
    later = refused_status(pod, refused, now="2026-11-22T13:00:00Z")
    assert status_patch(pod["status"], later) is None
    assert pod["status"]["qosClass"] == "Burstable"


def test_a_condition_set_meanwhile_by_others_is_not_removed() -> None:
    theirs = {"type": "example.com/late", "status": "True"}
    assert status_patch({"conditions": [theirs]}, {"conditions": []}) is None


@pytest.mark.parametrize("entry", [{}, {"status": 7}, {"status": "true"}, {"status": None}])
def test_a30_condition_without_sense_is_as_if_not_there(
    pod: Json, remote_status: Json, context: ForgeContext, entry: Json
) -> None:
    remote_status["conditions"] = [{**entry, "type": kind} for kind in ("ContainersReady", "Ready", "Initialized")]
    assert wanted_for(pod, remote_status, context)["conditions"] == pod["status"]["conditions"]


def test_pod_that_is_no_longer_refused_says_so(pod: Json, context: ForgeContext) -> None:
    refused = Refused("spec.runtimeClassName", "map it")
    pod["status"] = merged(pod["status"], status_patch(pod["status"], refused_status(pod, refused, now=NOW)))
    pod["status"] = merged(pod["status"], status_patch(pod["status"], wanted_for(pod, {"phase": "Pending"}, context)))
    assert "OffloadRefused" not in json.dumps(pod["status"])
    assert pod["status"]["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}


def test_refusal_of_a_pod_that_has_run_forgets_nothing(pod: Json, remote_status: Json, context: ForgeContext) -> None:
    remote_status["containerStatuses"][0]["restartCount"] = 4
    pod["status"] = merged(pod["status"], status_patch(pod["status"], wanted_for(pod, remote_status, context)))
    container = refused_status(pod, Refused("provider", "quota"), now=NOW)["containerStatuses"][0]
    assert container["restartCount"] == 4
    assert container["state"]["waiting"]["message"] == "provider: quota"
    assert not container["ready"]
    pod["status"]["phase"] = "Succeeded"
    assert status_patch(pod["status"], refused_status(pod, Refused("provider", "quota"), now=NOW)) is None


def test_a_pod_that_no_kubelet_has_taken_up_costs_no_write(pod: Json, context: ForgeContext) -> None:
    assigned = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}
    pod["status"] = {"phase": "Pending", "conditions": pod["status"]["conditions"], "qosClass": "Burstable"}
    for status in ({"phase": "Pending"}, assigned):
        assert status_patch(pod["status"], wanted_for(pod, status, context)) is None
    taken_up = {**assigned, "startTime": NOW}
    patch = status_patch(pod["status"], wanted_for(pod, taken_up, context))
    assert patch is not None
    assert patch["status"]["hostIP"] == "198.18.0.9"


def test_a_remote_pod_made_again_does_not_take_the_host_away(
    pod: Json, remote_status: Json, context: ForgeContext
) -> None:
    pod["status"] = merged(pod["status"], status_patch(pod["status"], wanted_for(pod, remote_status, context)))
    wanted = wanted_for(pod, {"phase": "Pending"}, context)
    assert wanted["hostIP"] == pod["status"]["hostIP"]
    assert wanted["hostIPs"] == pod["status"]["hostIPs"]


@pytest.mark.parametrize(("phase", "code"), [("Succeeded", 0), ("Failed", 137)])
def test_of_an_end_that_is_only_recorded_containers_end_too(phase: str, code: int) -> None:
    pod = {
        "metadata": {"name": "a"},
        "spec": {"containers": [{"name": "main", "image": "a"}]},
        "status": {
            "phase": "Running",
            "containerStatuses": [{"name": "main", "state": {"running": {}}, "ready": True}],
        },
    }
    wanted = recorded_status(pod, phase=phase, reason="", message="", now="2026-01-01T00:00:00Z")
    assert wanted["phase"] == phase
    assert wanted["containerStatuses"][0]["state"]["terminated"]["exitCode"] == code
    assert {one["type"]: one["status"] for one in wanted["conditions"]} == {
        "ContainersReady": "False",
        "Ready": "False",
    }
    again = recorded_status(
        {**pod, "status": wanted}, phase="Failed", reason="x", message="", now="2026-01-02T00:00:00Z"
    )
    assert again["phase"] == phase
