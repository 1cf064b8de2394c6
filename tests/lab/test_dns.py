"""Names of reflected Services from offloaded pods, through `isthmus dns` and a real CoreDNS, under every mapping."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from deploy import stack
from deploy.lab import isthmus_image
from deploy.lab.lab import Lab
from tests import manifests as m
from tests.kubectl import Kubectl, admin, eventually, ready

CONSUMER_ID = "named"
NODE = "virtual-dns"
USER = f"system:node:{NODE}"
RBAC = "rbac.authorization.k8s.io"
OWN = f"isthmus-{CONSUMER_ID}"
TAINT = {"key": "example.com/dns", "operator": "Exists", "effect": "NoSchedule"}


def service(name: str, **spec: object) -> m.Manifest:
    made = {"selector": {"app": name}, "ports": [{"name": "http", "port": 8080}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": made}


def here(name: str, app: str, **fields: object) -> m.Manifest:
    """A pod for this module's virtual node."""
    where = {"nodeSelector": {"kubernetes.io/hostname": NODE}, "tolerations": [TAINT]}
    return m.pod(name, metadata={"labels": {"app": app}}, **where, **fields)


@dataclass(frozen=True)
class Names:
    """kubectl in the namespaces of both sides, by the mapping that they stand for."""

    consumer: dict[str, Kubectl]
    provider: dict[str, Kubectl]

    def reaches(self, mapping: str, host: str) -> bool:
        """Whether a pod of that namespace gets through to the port of a Service or pod by this name."""
        reach = ("exec", "asker", "--", "/agnhost", "connect", "--timeout=5s", f"{host}:8080")
        return self.consumer[mapping].result(*reach).returncode == 0

    def lookup(self, mapping: str, name: str) -> str:
        done = self.consumer[mapping].result("exec", "asker", "--", "nslookup", name)
        return done.stdout.decode()


def bind(namespace: str, role: str, user: str) -> m.Manifest:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": role, "namespace": namespace},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}],
    }


@pytest.fixture(scope="module")
def dns(lab: Lab) -> Iterator[str]:
    """`deploy/dns` at the provider, for this consumer; gives the address of its Service."""
    isthmus_image.load(lab.provider)
    stack.elect(lab.provider, consumer_id=CONSUMER_ID)
    yield stack.answer_names(lab.provider, consumer_id=CONSUMER_ID)
    admin(lab.provider, OWN).delete("namespace", OWN, "--wait=false")


@pytest.fixture(scope="module")
def names(lab: Lab, dns: str) -> Iterator[Names]:
    """Three namespaces, one for each mapping, with a Service and a pod that asks in each."""
    mark = uuid.uuid4().hex[:6]
    pairs = {
        "DefaultName": (f"shop-{mark}", f"shop-{mark}-{CONSUMER_ID}"),
        "EnforceSameName": (f"same-{mark}", f"same-{mark}"),
        "SelectedName": (f"data-{mark}", f"given-{mark}"),
    }
    consumer = {mapping: admin(lab.consumer, pair[0]) for mapping, pair in pairs.items()}
    there = admin(lab.provider, "default")
    here_admin = admin(lab.consumer, "default")
    here_admin.run("apply", "--server-side", "-f", str(stack.RBAC / "consumer-kinds.yaml"))
    there.run("apply", "--server-side", "-f", str(stack.RBAC / "kinds/provider.yaml"))
    for mapping, (near, far) in pairs.items():
        here_admin.run("create", "namespace", near)
        stack.grant_namespace(lab.provider, far, consumer_id=CONSUMER_ID)
        consumer[mapping].apply(bind(near, "isthmus-kinds", USER))
        admin(lab.provider, far).apply(bind(far, "isthmus-kinds-remote", stack.provider_user(CONSUMER_ID)))
        consumer[mapping].wait_for("serviceaccount", "default")
    # Whoever has a namespace of the consumer's name at the provider is not whom our pods mean.
    decoy = admin(lab.provider, pairs["DefaultName"][0])
    decoy.run("create", "namespace", decoy.namespace)
    decoy.apply(service("web", selector=None))
    options = [
        *(f"--namespace={near}={far}" for near, far in pairs.values()),
        "--reflect-kinds=default",
        f"--kinds-election-namespace={OWN}",
        f"--cluster-dns={dns}",
        "--taint=example.com/dns=only:NoSchedule",
    ]
    node = stack.start(lab, node=NODE, consumer_id=CONSUMER_ID, options=options)
    node.wait_ready()
    node.wait_serving()
    for kubectl in consumer.values():
        kubectl.apply(service("web"), service("db", clusterIP="None"))
        kubectl.create(here("asker", "web"))
        kubectl.create(here("db-0", "db", hostname="db-0", subdomain="db"))
    for kubectl in consumer.values():
        for name in ("asker", "db-0"):
            kubectl.wait_for("pod", name, ready, timeout=120)
    yield Names(consumer, {mapping: admin(lab.provider, far) for mapping, (_, far) in pairs.items()})
    node.unit.check_alive()
    for kubectl in consumer.values():
        kubectl.delete("namespace", kubectl.namespace, "--wait=false")
    node.remove()
    for name in (decoy.namespace, *(far for _, far in pairs.values())):
        there.delete("namespace", name, "--wait=false", "--ignore-not-found")


MAPPINGS = ("DefaultName", "EnforceSameName", "SelectedName")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("asking", MAPPINGS)
@pytest.mark.parametrize("asked", MAPPINGS)
def test_every_name_of_a_reflected_service_is_the_right_one(names: Names, asking: str, asked: str) -> None:
    """From a pod under one mapping to a Service under each."""
    near = names.consumer[asked].namespace
    forms = [f"web.{near}", f"web.{near}.svc", f"web.{near}.svc.cluster.local", f"web.{near}.svc.cluster.local."]
    if asking == asked:
        forms.append("web")
    for form in forms:
        eventually(lambda form=form: names.reaches(asking, form), what=f"{form} from {asking}", timeout=60)  # type: ignore[misc]  # a default argument
    address = str(names.provider[asked].get("service", "web")["spec"]["clusterIP"])
    assert address in names.lookup(asking, f"web.{near}.svc.cluster.local")


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_pods_of_a_headless_service_are_found_by_their_names(names: Names, mapping: str) -> None:
    name = f"db-0.db.{names.consumer[mapping].namespace}.svc.cluster.local"
    eventually(lambda: names.reaches(mapping, name), what=name, timeout=60)
    assert names.provider[mapping].get("pod", "db-0")["status"]["podIP"] in names.lookup(mapping, name)


def test_what_is_not_of_the_consumer_is_not_found(names: Names) -> None:
    """Neither the provider's API server nor anything else of its own under a name of the consumer's."""
    for name in ("kubernetes.default.svc.cluster.local", "kube-dns.kube-system.svc.cluster.local"):
        assert "NXDOMAIN" in names.lookup("DefaultName", name)
