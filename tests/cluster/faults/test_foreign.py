"""What is at the provider and not ours, and namespaces that are deleted with all that is in them."""

from deploy.lab.api import StatusError
from deploy.lab.components.kwok import HOLD_ANNOTATION
from reflection.forge import names
from tests.cluster.faults.world import CONSUMER_ID, LONG, MERGE, Json, World


def plant(world: World, name: str, *, labels: dict[str, str] | None = None, origin: tuple[str, str] = ("", "")) -> str:
    """A pod that somebody at the provider made; gives its UID. `origin` are name and UID that it claims to be for."""
    notes = {HOLD_ANNOTATION: "true"}
    if origin[0]:
        notes |= {names.ORIGIN_NAMESPACE: world.namespace, names.ORIGIN_NAME: origin[0], names.ORIGIN_UID: origin[1]}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {}, "annotations": notes},
        "spec": {"containers": [{"name": "main", "image": "none:1"}]},
    }
    made: Json = world.provider.request("POST", world.remote_path(), body=body)
    world.set_remote_status(name, phase="Failed", restarts=7)
    uid: str = made["metadata"]["uid"]
    return uid


def test_f40_i3_i4_pods_of_others_are_neither_believed_nor_touched(direct: World) -> None:
    direct.held_running("a")
    uid = direct.uid("a")
    node = {names.NODE_LABEL: direct.node.name}
    planted = {
        "stranger": plant(direct, "stranger"),
        "neighbour": plant(direct, "neighbour", labels={names.CONSUMER_LABEL: "other"}, origin=("a", uid)),
        "rival": plant(direct, "rival", labels={**node, names.CONSUMER_LABEL: "other"}, origin=("a", uid)),
        "double": plant(direct, "double", labels={**node, names.CONSUMER_LABEL: CONSUMER_ID}, origin=("a", uid)),
        "b": plant(direct, "b"),
    }
    direct.create("b", held=True)
    direct.until(lambda: (direct.pod("b") or {})["status"].get("reason") == "OffloadRefused", what="the refusal")
    assert "isthmus did not make" in (direct.pod("b") or {})["status"]["message"]
    direct.delete("b")
    direct.until(lambda: direct.pod("b") is None, what="the refused pod to go")
    direct.set_remote_status("a", restarts=1)
    direct.until_restarts("a", 1)
    assert (direct.pod("a") or {})["status"]["phase"] == "Running"

    direct.node.unit.restart()
    direct.node.wait_ready()
    direct.set_remote_status("a", restarts=2)
    direct.until_restarts("a", 2)
    there = {pod["metadata"]["name"]: pod["metadata"] for pod in direct.remotes()}
    assert {name: there[name]["uid"] for name in planted} == planted
    assert not any("deletionTimestamp" in metadata for metadata in there.values())
    for name in planted:
        direct.provider.request("DELETE", f"{direct.remote_path(name)}?gracePeriodSeconds=0")
    # The planted ones name an origin too, so the invariants cannot be judged by that here.
    assert len([life for life in direct.history().remotes_of(uid) if life.name == "a"]) == 1


def test_f30_i1_a_namespace_deleted_while_its_provider_is_away_goes_when_it_is_back(direct: World) -> None:
    direct.running("a", "b")
    path = f"/api/v1/namespaces/{direct.namespace}"
    with direct.provider_away(direct.faults.link_cut(direct.node.name, "provider")):
        direct.consumer.request("DELETE", path)
        direct.until(
            lambda: all("deletionTimestamp" in pod["metadata"] for pod in direct.pods()), what="the pods to be told"
        )
        assert {pod["metadata"]["name"] for pod in direct.pods()} == {"a", "b"}, "nobody knows of their remote pods"
        assert {pod["metadata"]["name"] for pod in direct.remotes()} == {"a", "b"}

    def gone() -> bool:
        try:
            direct.consumer.request("GET", path)
        except StatusError as error:
            return error.status == 404
        return False

    direct.until(gone, what="the namespace to go", timeout=2 * LONG)
    assert not direct.remotes()


def test_f30_a_namespace_of_ours_with_a_finalizer_holds_up_no_other(direct: World) -> None:
    """One that somebody at the provider keeps from going is waited for; pods of others go on."""
    direct.running("a")
    path = f"/api/v1/namespaces/{direct.remote_namespace}"
    hold = {"metadata": {"finalizers": ["test.isthmus.dev/slow"]}}
    direct.provider.request("PATCH", direct.remote_path("a"), body=hold, content_type=MERGE)
    direct.provider.request("DELETE", path)
    direct.delete("a")
    direct.until(lambda: "deletionTimestamp" in (direct.remote("a") or {})["metadata"], what="the deletion")
    assert direct.pod("a"), "its remote pod is still there"
    direct.provider.request(
        "PATCH", direct.remote_path("a"), body={"metadata": {"finalizers": None}}, content_type=MERGE
    )
    direct.until_gone("a")
