"""A provider that ends what it runs: shown, told to who looks after the node, and nothing is deleted here for it."""

from deploy.lab.api import StatusError
from tests.cluster.faults.world import World

NAMES = tuple(f"p{number}" for number in range(12))


def until_told(world: World, since: int) -> None:
    """Until the Node has one more event about it."""
    world.until(lambda: told(world) > since, what="the event about the node")


def told(world: World) -> int:
    query = f"fieldSelector=involvedObject.name={world.node.name},reason=ProviderEndedPods"
    items = world.consumer.request("GET", f"/api/v1/namespaces/default/events?{query}")["items"]
    return sum(item.get("count") or 1 for item in items)


def test_a36_i1_a_provider_that_removes_a_namespace_loses_no_pod(direct: World) -> None:
    direct.running(*NAMES)
    uids = {name: direct.uid(name) for name in NAMES}
    before = told(direct)
    direct.provider.request("DELETE", f"/api/v1/namespaces/{direct.remote_namespace}")
    until_told(direct, before)

    def made_again() -> bool:
        try:
            remotes = {pod["metadata"]["name"]: pod for pod in direct.remotes()}
        except StatusError:
            return False
        return all(name in remotes and "deletionTimestamp" not in remotes[name]["metadata"] for name in NAMES)

    direct.until(made_again, what="all remote pods to be there again", timeout=120)
    direct.until_phase(*NAMES)
    assert {name: direct.uid(name) for name in NAMES} == uids, "nothing was deleted here"


def test_a36_i3_a_provider_that_says_all_have_succeeded_has_nothing_deleted_here(direct: World) -> None:
    """The claim is shown, for it may be true; the objects stay with their owners."""
    for name in NAMES:
        direct.held_running(name)
    uids = {name: direct.uid(name) for name in NAMES}
    for name in NAMES:
        direct.set_remote_status(name, phase="Succeeded")
    direct.until_phase(*NAMES, phase="Succeeded")
    assert {name: direct.uid(name) for name in NAMES} == uids
    assert {name: len(direct.history().remotes_of(uids[name])) for name in NAMES} == dict.fromkeys(NAMES, 1)
