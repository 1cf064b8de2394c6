"""Peering by exchanging files: nothing but `kubectl apply` on both sides."""

import subprocess
import sys

import pytest
import yaml

from deploy.lab.lab import Lab
from deploy.lab.paths import ROOT
from tests.cluster.identity.conftest import LONG, Peering, condition, identity
from tests.kubectl import KubectlError, eventually


def test_two_bare_clusters_peer_by_kubectl_apply_only(peering: Peering) -> None:
    tenant = peering.ask()
    answer = peering.answer(tenant)
    found = peering.enter(answer)
    assert found["status"]["kubeconfigSecret"] == f"provider-{peering.name}"
    credential = peering.credential()
    who = yaml.safe_load(credential.run("auth", "whoami", "-o", "yaml"))["status"]["userInfo"]
    assert who["username"] == found["status"]["user"] == peering.tenant("Active")["status"]["user"]
    assert credential.run("get", "namespacemaps", "-o", "name") == ""
    for file in (tenant, answer):
        assert "PRIVATE" not in file
        assert "token" not in file.lower()


def test_order_and_repetition_do_not_matter(peering: Peering) -> None:
    tenant = peering.ask()
    answer = peering.answer(tenant)
    for _ in range(2):
        peering.provider.run("apply", "-f", "-", stdin=tenant)
        found = peering.enter(answer)
    assert peering.ask() == tenant
    again = peering.ready()
    assert again["status"]["user"] == found["status"]["user"]
    assert condition(peering.provider.get("tenant", "shop"))["status"] == "True"
    eventually(lambda: peering.credential().run("get", "namespacemaps") is not None, what="rights")


def test_what_the_administrator_added_stays_when_the_consumer_asks_again(peering: Peering) -> None:
    tenant = peering.ask()
    peering.enter(peering.answer(tenant))
    peering.provider.run("patch", "tenant", "shop", "--type=merge", "-p", '{"spec":{"resources":{"cpu":4}}}')
    peering.provider.run("apply", "-f", "-", stdin=tenant)
    assert peering.provider.get("tenant", "shop")["spec"]["resources"] == {"cpu": 4}


def test_another_cluster_cannot_take_the_same_id(peering: Peering) -> None:
    tenant = peering.ask()
    peering.answer(tenant)
    other = yaml.safe_load(tenant)
    other["spec"]["clusterID"] = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(KubectlError, match="clusterID cannot be changed"):
        peering.provider.apply(other)


def test_isthmus_peer_does_both_sides_in_one_line(lab: Lab, peering: Peering) -> None:
    command = [sys.executable, "-m", "isthmus", "peer", f"--name={peering.name}"]
    command.append(f"--kubeconfig={lab.consumer.admin_kubeconfig}")
    asked = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, cwd=ROOT)
    assert yaml.safe_load(asked.stdout)["kind"] == "Tenant"
    command.append(f"--provider-kubeconfig={lab.provider.admin_kubeconfig}")
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240, cwd=ROOT)
    assert f"provider-{peering.name}" in done.stderr
    peering.ready()


def test_a_kubeconfig_that_somebody_else_renews_is_declared(peering: Peering) -> None:
    name = f"own-{peering.name}"
    peering.consumer.run("create", "secret", "generic", name, f"--from-file=kubeconfig={peering.provider.kubeconfig}")
    peering.consumer.apply(identity(name, method="Kubeconfig", secret={"name": name}))
    found = peering.consumer.wait_for("identity", name, lambda it: condition(it)["reason"] == "Given", timeout=LONG)
    assert found["status"]["kubeconfigSecret"] == name
    assert "tenant" not in found["status"]
    peering.consumer.delete("secret", name)
    peering.consumer.run("annotate", "identity", name, "looked-at=now")
    found = peering.consumer.wait_for("identity", name, lambda it: condition(it)["status"] == "False", timeout=LONG)
    assert "is not there" in condition(found)["message"]
