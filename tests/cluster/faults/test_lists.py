"""Faults of lists and watches: what they show is wrong, and nothing is lost for it."""

from deploy.lab.proxy import rules
from tests.cluster.faults.world import World

NAMES = ("a", "b", "c")


def test_f12_i3_an_empty_list_of_the_consumer_deletes_nothing(spoiled: World) -> None:
    spoiled.running(*NAMES)
    proxy, since = spoiled.consumer_proxy, len(spoiled.consumer_proxy.records)
    rule = proxy.add(rules.empty_list(), path="^/api/v1/pods$", verb="list")
    spoiled.list_again("consumer", path="/api/v1/pods", streaming=False)
    spoiled.until(lambda: rule.hits, what="the empty list")
    spoiled.until_asked("consumer", *NAMES, since=since)
    proxy.clear()
    spoiled.list_again("consumer", path="/api/v1/pods")
    spoiled.running("d")
    spoiled.delete("a")
    spoiled.until_gone("a")
    history = spoiled.check()
    assert [len(history.remotes_of(spoiled.uid(name))) for name in ("b", "c", "d")] == [1, 1, 1]


def test_f12_i1_i2_an_empty_list_of_the_provider_loses_nothing(spoiled: World) -> None:
    spoiled.running("a", "b")
    spoiled.held_running("c")
    proxy = spoiled.provider_proxy
    path = f"/{spoiled.remote_namespace}/pods$"
    rule = proxy.add(rules.empty_list(), path=path, verb="list")
    since = len(proxy.records)
    spoiled.list_again("provider", path=path.rstrip("$"), streaming=False)
    spoiled.until(lambda: rule.hits, what="the empty list")
    spoiled.until_asked("provider", *NAMES, since=since)
    spoiled.delete("a")
    spoiled.until_gone("a")
    proxy.clear()
    spoiled.list_again("provider", path=path.rstrip("$"))
    spoiled.set_remote_status("c", restarts=1)
    spoiled.until(lambda: spoiled.restarts("c") == 1, what="the restart")
    history = spoiled.check()
    assert all(pod["status"]["phase"] == "Running" for pod in spoiled.pods())
    assert [len(history.remotes_of(spoiled.uid(name))) for name in ("b", "c")] == [1, 1]
