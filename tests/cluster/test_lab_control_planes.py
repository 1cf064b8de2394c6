"""Control planes alone: who may do what, fake nodes, faults, certificate requests."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from deploy.lab import console
from deploy.lab.api import Api, StatusError
from deploy.lab.cluster import LabCluster
from deploy.lab.components import kwok
from deploy.lab.errors import LabError
from deploy.lab.faults import Faults
from deploy.lab.lab import Lab
from deploy.lab.process import wait_until


def test_a_minted_identity_has_no_rights_of_its_own(consumer: LabCluster, tmp_path: Path) -> None:
    config = consumer.client_kubeconfig("somebody", path=tmp_path / "kubeconfig")
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert "somebody" in consumer.kubectl("auth", "whoami", kubeconfig=config)
    with pytest.raises(LabError, match="forbidden"):
        consumer.kubectl("get", "secrets", "-A", kubeconfig=config)


def test_a_node_identity_is_confined_to_its_node(consumer: LabCluster, tmp_path: Path) -> None:
    config = consumer.client_kubeconfig("system:node:mine", groups=["system:nodes"], path=tmp_path / "kubeconfig")
    for name, allowed in (("mine", True), ("theirs", False)):
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        if allowed:
            consumer.kubectl("create", "-f", "-", kubeconfig=config, stdin=json.dumps(node))
            consumer.api.request("DELETE", f"/api/v1/nodes/{name}")
        else:
            with pytest.raises(LabError, match="is not allowed to modify node"):
                consumer.kubectl("create", "-f", "-", kubeconfig=config, stdin=json.dumps(node))


def test_pods_on_fake_nodes_become_ready_and_go(provider: LabCluster, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    for name, notes in (("free", {}), ("held", {kwok.HOLD_ANNOTATION: ""})):
        spec = {"containers": [{"name": "c", "image": "none"}]}
        metadata = {"name": name, "annotations": notes}
        provider.api.request("POST", path, body={"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def phase(name: str) -> str:
        found: str = provider.api.request("GET", f"{path}/{name}")["status"].get("phase", "")
        return found

    wait_until(lambda: phase("free") == "Running", what="the pod to run", timeout=20)
    assert phase("held") == "Pending"
    for name in ("free", "held"):
        provider.api.request("DELETE", f"{path}/{name}")
    wait_until(lambda: not provider.api.request("GET", path)["items"], what="the pods to go", timeout=20)


def test_a_link_is_cut_in_one_direction_and_mended(lab: Lab, faults: Faults) -> None:
    host = lab.add_host("probe")
    probe = ["sh", "-c", f"exec 3<>/dev/tcp/{lab.provider.plan.site.ip}/6443"]

    def reaches() -> bool:
        try:
            console.run(["timeout", "2", *host.command(["bash", *probe[1:]])])
        except LabError:
            return False
        return True

    assert reaches()
    with faults.link_cut("probe", "provider", one_way=True):
        assert not reaches()
        assert lab.provider.api.ready()
    assert reaches()


def test_the_machine_itself_can_be_cut_off(lab: Lab, faults: Faults) -> None:
    faults.cut("root", "provider")
    with pytest.raises(OSError, match="timed out"):
        lab.provider.api.text("/readyz", timeout=1)
    assert lab.consumer.api.ready()
    faults.heal()
    assert lab.provider.api.ready()


def test_an_api_server_paused_answers_nothing_until_it_goes_on(provider: LabCluster, faults: Faults) -> None:
    with faults.paused("provider", "kube-apiserver"), pytest.raises(OSError, match="timed out"):
        provider.api.text("/readyz", timeout=1)
    assert provider.api.ready()


def test_a_killed_api_server_comes_back_with_its_data(provider: LabCluster, faults: Faults, namespace: str) -> None:
    with faults.killed("provider", "kube-apiserver"):
        assert not provider.api.ready()
    assert provider.api.exists(f"/api/v1/namespaces/{namespace}")


def test_the_audit_log_tells_who_asked(consumer: LabCluster, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "audited"}, "data": {"a": "1"}}
    consumer.api.request("POST", path, body=body)
    events = [json.loads(line) for line in consumer.audit_log.read_text().splitlines()]
    (event,) = [e for e in events if e["requestURI"] == path and e["user"]["username"] == "lab:admin"]
    assert event["verb"] == "create"
    assert event["requestObject"]["data"] == {"a": "1"}


def test_secrets_are_not_in_the_audit_log(consumer: LabCluster, namespace: str) -> None:
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "not-to-be-seen"}}
    consumer.api.request("POST", f"/api/v1/namespaces/{namespace}/secrets", body=body)
    assert "not-to-be-seen" not in consumer.audit_log.read_text()


def test_an_anonymous_client_gets_nothing(consumer: LabCluster) -> None:
    stranger = Api(consumer.url, ca=str(consumer.ca.files.certificate), pair=None)
    with pytest.raises(StatusError) as refused:
        stranger.request("GET", "/api/v1/namespaces")
    assert refused.value.status == 403
