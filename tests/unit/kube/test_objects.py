import gc
import tracemalloc

import msgspec
import pytest
from msgspec import Raw

from kube.objects import Event, Metadata, Object, Secret, revision, to_dict


def test_unknown_fields_of_spec_survive_and_managed_fields_do_not() -> None:
    raw = b'{"kind":"Pod","metadata":{"name":"x","managedFields":[{"a":1}]},"spec":{"brandNew":[1,2]},"status":null}'
    pod = msgspec.json.decode(raw, type=Object)
    assert bytes(pod.spec) == b'{"brandNew":[1,2]}'
    assert bytes(pod.status) == b"{}"
    assert to_dict(pod) == {"metadata": {"name": "x"}, "spec": {"brandNew": [1, 2]}}


def test_an_object_does_not_pin_the_page_it_came_in() -> None:
    decoder = msgspec.json.Decoder(tuple[Object, ...])
    tracemalloc.start()
    try:
        page = b'[{"metadata":{"name":"x"},"spec":{"a":1}},{"spec":"' + b"z" * 5_000_000 + b'"}]'
        kept = decoder.decode(page)[0]
        del page
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
        assert bytes(kept.spec) == b'{"a":1}'
    finally:
        tracemalloc.stop()


def test_null_timestamp_is_empty() -> None:
    assert msgspec.json.decode(b'{"creationTimestamp":null}', type=Metadata).creation_timestamp == ""


def test_a38_secret_does_not_show_its_data() -> None:
    secret = Secret(metadata=Metadata(name="s"), data={"password": "aHVudGVyMg=="})
    assert "aHVudGVyMg" not in repr(secret)
    assert "aHVudGVyMg" not in str(secret)
    assert "aHVudGVyMg" not in repr(list(secret.__rich_repr__()))


def test_event_with_null_times() -> None:
    raw = b'{"metadata":{"name":"e"},"involvedObject":{"kind":"Pod"},"firstTimestamp":null,"eventTime":null,"count":3}'
    event = msgspec.json.decode(raw, type=Event)
    assert (event.count, event.first_timestamp, event.involved_object.kind) == (3, None, "Pod")


@pytest.mark.parametrize(
    ("text", "number"), [("12", 12), ("", None), ("abc", None), ("-1", None), ("\uff11\uff12", None)]
)
def test_revision(text: str, number: int | None) -> None:
    assert revision(text) == number


def test_objects_are_immutable() -> None:
    with pytest.raises(AttributeError):
        Object().spec = Raw(b"1")  # type: ignore[misc]  # the point of the test
