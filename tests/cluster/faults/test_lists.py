"""Faults of lists and watches: what they show is wrong, and nothing is lost for it."""

import json

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
    proxy, paths = spoiled.provider_proxy, spoiled.watched
    empty = [proxy.add(rules.empty_list(), path=f"{path}$", verb="list") for path in paths]
    since = len(proxy.records)
    for path in paths:
        spoiled.list_again("provider", path=path, streaming=False)
    spoiled.until(lambda: all(rule.hits for rule in empty), what="the empty lists")
    spoiled.until_asked("provider", *NAMES, since=since)
    spoiled.delete("a")
    spoiled.until_gone("a")
    proxy.clear()
    for path in paths:
        spoiled.list_again("provider", path=path)
    spoiled.set_remote_status("c", restarts=1)
    spoiled.until_restarts("c", 1)
    history = spoiled.check()
    assert all(pod["status"]["phase"] == "Running" for pod in spoiled.pods())
    assert [len(history.remotes_of(spoiled.uid(name))) for name in ("b", "c")] == [1, 1]


def test_f6_i3_positions_that_expired_are_listed_anew(spoiled: World) -> None:
    spoiled.running("a", "b")
    uid = spoiled.uid("a")
    watched = [(spoiled.consumer_proxy, "/api/v1/pods"), *((spoiled.provider_proxy, path) for path in spoiled.watched)]
    gone = [proxy.add(rules.gone(), path=f"{path}$", query="resourceVersion=[1-9]") for proxy, path in watched]
    for proxy, path in watched:
        proxy.break_watches(path=path)
    # What happens while no watch is open is known by the list only.
    spoiled.delete("a", grace=0)
    spoiled.create("c")
    spoiled.until(lambda: all(rule.hits for rule in gone), what="410 everywhere")
    spoiled.until_gone("a")
    spoiled.until_phase("b", "c")
    for proxy in spoiled.proxies.values():
        proxy.clear()
    spoiled.list_again("consumer", path="/api/v1/pods")
    spoiled.running("d")
    history = spoiled.check()
    assert len(history.remotes_of(uid)) == 1
    assert [len(history.remotes_of(spoiled.uid(name))) for name in ("b", "c", "d")] == [1, 1, 1]


def test_f7_i7_watches_that_close_at_once_are_not_hammered(spoiled: World) -> None:
    spoiled.running("a")
    closed = rules.Answer(200, b"")
    proxies = ((spoiled.consumer_proxy, "^/api/v1/pods$"), (spoiled.provider_proxy, f"/{spoiled.remote_namespace}/"))
    added = [proxy.add(closed, path=path, verb="watch") for proxy, path in proxies]
    spoiled.consumer_proxy.break_watches(path="/api/v1/pods")
    spoiled.provider_proxy.break_watches(path=f"/{spoiled.remote_namespace}/")
    spoiled.until(lambda: all(rule.hits >= 5 for rule in added), what="watches to be closed")
    spoiled.create("b")
    for proxy, _ in proxies:
        proxy.clear()
    spoiled.until_phase("a", "b")
    for (proxy, path), began in zip(proxies, (spoiled.marks.records[s] for s in ("consumer", "provider")), strict=True):
        times: dict[str, list[float]] = {}
        for record in proxy.seen(path=path, verb="watch", since=began):
            if record.spoiled:
                times.setdefault(record.request.path, []).append(record.at)
        for at in times.values():
            assert len([one for one in at if one - at[0] < 3]) <= 10
    spoiled.check()


def test_f8_i4_events_that_come_twice_or_again_change_nothing(spoiled: World) -> None:
    for path in spoiled.watched:
        spoiled.provider_proxy.add(rules.duplicated_events(), path=f"{path}$")
        spoiled.provider_proxy.add(rules.replayed_events(), path=f"{path}$")
    spoiled.consumer_proxy.add(rules.replayed_events(), path="^/api/v1/pods$")
    spoiled.held_running("a", restartPolicy="OnFailure")
    for count in (1, 2, 3):
        spoiled.set_remote_status("a", restarts=count)
        spoiled.until_restarts("a", count)
    spoiled.set_remote_status("a", phase="Succeeded", restarts=3)
    spoiled.until_phase("a", phase="Succeeded")
    spoiled.running("b")
    spoiled.delete("b")
    spoiled.until_gone("b")
    history = spoiled.check()
    (origin,) = (life for life in history.origins() if life.name == "a")
    assert [pod["status"]["phase"] for pod in origin.states][-1] == "Succeeded"
    assert len(history.remotes_of(origin.uid)) == 1


def test_f9_i5_an_event_that_was_lost_is_made_good_by_the_next_list(spoiled: World) -> None:
    """Here the list comes by a 410; the one that comes by itself is in test_long_outages.py."""
    spoiled.held_running("a")
    path = spoiled.remote_path()
    lost = spoiled.provider_proxy.add(rules.dropped_events(), path=f"{path}$")
    spoiled.set_remote_status("a", restarts=1)
    spoiled.until(lambda: lost.hits, what="the event to be lost")
    assert spoiled.restarts("a") == 0
    spoiled.provider_proxy.clear()
    spoiled.list_again("provider", path=path)
    spoiled.until_restarts("a", 1)
    spoiled.check()


def test_f10_a_bookmark_alone_moves_the_point_to_resume_from(spoiled: World) -> None:
    spoiled.running("a")
    listing = spoiled.consumer.request("GET", "/api/v1/pods?limit=1")
    version = listing["metadata"]["resourceVersion"]
    mark = {"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": version}}}
    proxy, since = spoiled.consumer_proxy, len(spoiled.consumer_proxy.records)
    assert proxy.inject(mark, path="/api/v1/pods") == 1
    refused = proxy.add(rules.Refuse(), path="^/api/v1/pods$", times=1)
    proxy.break_watches(path="/api/v1/pods")
    spoiled.until(lambda: refused.hits, what="the attempt to resume")
    first = proxy.seen(path="^/api/v1/pods$", verb="watch", since=since)[0]
    # The break may have come before the bookmark was read: then the next attempt has it no more.
    resumed = int(dict(pair.split("=") for pair in first.request.query.split("&"))["resourceVersion"])
    assert resumed >= int(version)
    spoiled.running("b")
    spoiled.check()


def test_f11_i3_a_list_that_breaks_between_pages_is_not_taken_for_whole(spoiled: World) -> None:
    spoiled.running(*NAMES)
    proxy = spoiled.consumer_proxy

    def first_page(content: bytes) -> bytes:
        listing = json.loads(content)
        listing["items"] = listing["items"][:1]
        listing["metadata"]["continue"] = "expired"
        return json.dumps(listing).encode()

    path = "^/api/v1/pods$"
    expired = proxy.add(rules.gone(), path=path, verb="list", query="continue=expired", times=2)
    cut = proxy.add(rules.AlterBody(first_page), path=path, verb="list", times=2)
    more = [
        proxy.add(action, path=path, verb="list", times=1) for action in (rules.truncated(), rules.BreakBody(share=0.7))
    ]
    spoiled.list_again("consumer", path="/api/v1/pods", streaming=False)
    spoiled.until(lambda: expired.hits == 2 and cut.hits == 2 and all(r.hits for r in more), what="the spoiled lists")
    spoiled.running("d")
    history = spoiled.check()
    assert all(len(history.remotes_of(spoiled.uid(name))) == 1 for name in (*NAMES, "d"))
    listed = spoiled.logged("listed", resource="pods", client="consumer")
    assert all(line["objects"] >= len(NAMES) for line in listed[-1:])


def test_f13_i4_a_list_from_the_past_is_not_believed(spoiled: World) -> None:
    spoiled.held_running("a")
    path = f"{spoiled.remote_path()}$"
    past = json.dumps(spoiled.provider.request("GET", spoiled.remote_path())).encode()
    spoiled.set_remote_status("a", restarts=1)
    spoiled.until_restarts("a", 1)
    stale = spoiled.provider_proxy.add(rules.AlterBody(lambda _: past), path=path, verb="list", times=3)
    spoiled.list_again("provider", path=spoiled.remote_path(), streaming=False)
    spoiled.until(lambda: stale.hits == 3, what="the stale lists")
    spoiled.set_remote_status("a", restarts=2)
    spoiled.until_restarts("a", 2)
    spoiled.check()
