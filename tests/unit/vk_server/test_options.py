"""Query strings to options, with the kubelet's wording."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vk.server.errors import RequestError, printable, read_status
from vk.server.options import ExecOptions, LogOptions, parse_ports, parse_query

UNDECODABLE = (400, '{"message": "Unable to decode query."}')
INVALID = (422, '{"message": "Invalid request."}')


def refusal(query: str) -> tuple[int, str]:
    with pytest.raises(RequestError) as caught:
        LogOptions.parse(parse_query(query))
    return caught.value.status, caught.value.message


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("tailLines=-1", INVALID),
        ("tailLines=1e20", UNDECODABLE),
        ("tailLines=100000000000000000000", UNDECODABLE),
        ("tailLines=", UNDECODABLE),
        ("tailLines=%D9%A1", UNDECODABLE),
        ("tailLines=1_0", UNDECODABLE),
        ("tailLines=+%201", UNDECODABLE),
        ("tail=-5", INVALID),
        ("limitBytes=0", INVALID),
        ("limitBytes=-1", INVALID),
        ("limitBytes=9223372036854775808", UNDECODABLE),
        ("sinceSeconds=0", INVALID),
        ("sinceSeconds=-3", INVALID),
        ("sinceSeconds=x", UNDECODABLE),
        ("sinceSeconds=3&sinceTime=2026-01-01T00:00:00Z", INVALID),
        ("sinceSeconds=3&sinceTime=", INVALID),
        ("sinceTime=yesterday", UNDECODABLE),
        ("sinceTime=2026-02-30T00:00:00Z", UNDECODABLE),
        ("sinceTime=2026-01-01T00:00:00", UNDECODABLE),
        ("sinceTime=2026-01-01T00:00:00%2B24:00", UNDECODABLE),
        ("sinceTime=2026-01-01T00:00:00Z%0d%0aX:1", UNDECODABLE),
        ("stream=Neither", INVALID),
        ("stream=Stdout&tailLines=3", INVALID),
    ],
)
def test_a19_log_options_that_make_no_sense(query: str, expected: tuple[int, str]) -> None:
    assert refusal(query) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", []),
        ("follow=true&previous=1&timestamps=", [("follow", "true"), ("previous", "true"), ("timestamps", "true")]),
        ("follow=false&previous=0&timestamps=FALSE", []),
        ("tailLines=10&limitBytes=5&sinceSeconds=1", [("sinceSeconds", "1"), ("tailLines", "10"), ("limitBytes", "5")]),
        ("tailLines=%2B10", [("tailLines", "10")]),
        ("tail=5", [("tailLines", "5")]),
        ("tail=all&tailLines=7", []),
        ("tailLines=0", [("tailLines", "0")]),
        ("sinceTime=2026-01-01T00:00:00.123456789%2B02:00", [("sinceTime", "2026-01-01T00:00:00.123456789+02:00")]),
        ("sinceTime=null", []),
        ("stream=All", []),
        ("stream=Stderr", [("stream", "Stderr")]),
        ("container=other&insecureSkipTLSVerifyBackend=true&anything=1", []),
    ],
)
def test_log_options_for_the_provider(query: str, expected: list[tuple[str, str]]) -> None:
    assert LogOptions.parse(parse_query(query)).params(container="app") == [("container", "app"), *expected]


@given(st.dictionaries(st.sampled_from(["tailLines", "limitBytes", "sinceSeconds", "sinceTime", "tail"]), st.text()))
def test_a19_anything_else_is_refused_in_a_known_way(values: dict[str, str]) -> None:
    refused = None
    try:
        options = LogOptions.parse({key: [value] for key, value in values.items()})
    except RequestError as error:
        refused = (error.status, error.message)
    if refused is not None:
        assert refused in (UNDECODABLE, INVALID)
        return
    assert all(value.isascii() and value.isprintable() for _, value in options.params(container="c"))


def test_a19_exec_needs_a_stream_and_drops_stderr_with_a_tty() -> None:
    words = "you must specify at least 1 of stdin, stdout, stderr"
    for query in ("", "tty=1", "tty=1&error=1", "input=true", "stdin=1"):
        with pytest.raises(RequestError, match=words) as caught:
            ExecOptions.parse(parse_query(query), command=True)
        assert caught.value.status == 400
    both = ExecOptions.parse(parse_query("tty=1&error=1&output=1&command=sh"), command=True)
    assert both.params(container="c") == [("container", "c"), ("command", "sh"), ("stdout", "true"), ("tty", "true")]


@given(st.lists(st.text(max_size=20).filter(lambda text: text.isprintable())))
def test_commands_pass_as_they_are(command: list[str]) -> None:
    options = ExecOptions.parse({"command": list(command), "output": ["1"]}, command=True)
    assert [value for key, value in options.params(container="c") if key == "command"] == command


@pytest.mark.parametrize(
    "text", ["0", "65536", "-1", "x", "", "80,", "80,,81", "8 0", "\u0661", "1e3", "99999999999999999999"]
)
def test_a19_ports(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_ports({"port": [text]}, websocket=True)
    assert caught.value.status == 400


def test_ports_are_needed_for_websocket_only() -> None:
    assert parse_ports({}, websocket=False) == []
    assert parse_ports({"port": ["1,65535", "80"]}, websocket=True) == [
        ("ports", "1"),
        ("ports", "65535"),
        ("ports", "80"),
    ]
    with pytest.raises(RequestError, match='query parameter "port" is required'):
        parse_ports({}, websocket=True)


def test_a_query_that_is_not_utf8_or_endless_is_refused() -> None:
    for query in ("command=%ff", "&".join("a=1" for _ in range(70_000))):
        with pytest.raises(RequestError) as caught:
            parse_query(query)
        assert caught.value.status == 400


@pytest.mark.parametrize("code", ["\x1b[31m", "\x1b]0;title\x07", "\u202e", "\u2066", "\x00", "\x9b", "\u200b"])
def test_a33_text_of_the_provider_is_made_printable(code: str) -> None:
    message, reason = read_status(f'{{"kind":"Status","message":"a\\u{ord(code[0]):04x}b","reason":"R"}}'.encode())
    assert code[0] not in message
    assert message.startswith("a\\")
    assert reason == "R"
    assert code[0] not in printable(f"x{code}y")


def test_errors_that_are_no_status_are_passed_on_as_text() -> None:
    assert read_status(b"<html>bad gateway</html>") == ("<html>bad gateway</html>", "")
    assert read_status(b'{"kind":"Other","message":"x"}')[0] == '{"kind":"Other","message":"x"}'
    assert len(read_status(b"x" * 10**6)[0]) <= 20_000
