"""WireGuard's configuration: what differs, and nothing secret in any text but the one for `wg`."""

from __future__ import annotations

import base64
from ipaddress import ip_address
from pathlib import Path

import pytest

from netfabric.agent import reading, wireguard
from netfabric.agent.errors import KernelError
from netfabric.agent.model import Key, WireGuardLink
from netfabric.agent.wireguard import Endpoint, Report
from tests.unit.netfabric.agent.states import KEY, PUBLIC, gateway


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def link() -> WireGuardLink:
    kind = reading.read(gateway()).links[0].kind
    assert isinstance(kind, WireGuardLink)
    return kind


DUMP = (
    f"{text(KEY)}\tpublic\t51820\toff\n"
    f"{text(PUBLIC)}\t(none)\t192.0.2.7:51820\t10.244.0.0/16,fd24::/48,169.254.18.2/32\t1700000000\t10\t20\t20\n"
)
THERE: dict[bytes, Endpoint] = {PUBLIC: (ip_address("192.0.2.8"), 51820)}


def test_what_is_as_desired_is_left_alone() -> None:
    report = wireguard.parse_dump(DUMP)
    assert report.peers[PUBLIC].endpoint == (ip_address("192.0.2.7"), 51820)
    assert wireguard.configuration(link(), wireguard.secrets(link()), report, tell={}) is None


def test_a_roaming_peer_is_told_an_endpoint_only_when_that_is_asked_for() -> None:
    report = wireguard.parse_dump(DUMP.replace("\t20\n", "\t25\n"))
    told = wireguard.configuration(link(), wireguard.secrets(link()), report, tell={})
    assert told is not None
    assert "Endpoint" not in told
    assert "ListenPort = 51820" in told
    moved = wireguard.configuration(link(), wireguard.secrets(link()), wireguard.parse_dump(DUMP), tell=THERE)
    assert moved is not None
    assert "Endpoint = 192.0.2.8:51820" in moved


@pytest.mark.parametrize(
    "dump",
    [
        DUMP.replace(text(KEY), text(bytes(32))),
        DUMP.replace("\t51820\toff", "\t51821\toff"),
        DUMP.splitlines()[0] + "\n",
        DUMP.replace(",fd24::/48", ""),
        DUMP.replace("(none)\t192", f"{text(PUBLIC)}\t192"),
    ],
)
def test_what_somebody_changed_is_told_again(dump: str) -> None:
    assert wireguard.configuration(link(), wireguard.secrets(link()), wireguard.parse_dump(dump), tell={})


def test_no_secret_is_in_a_report() -> None:
    report = wireguard.parse_dump(DUMP)
    secrets = wireguard.secrets(link())
    for secret in (text(KEY), repr(KEY), KEY.hex()):
        assert secret not in repr(report)
        assert secret not in repr(secrets)
    assert repr(Report()) == "Report(listen_port=0, peers={})"


@pytest.mark.parametrize("content", ["not base64!", text(b"short"), None])
def test_a_key_file_that_is_no_key_is_named_and_not_shown(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    kind = WireGuardLink(private_key=Key(file=str(file)))
    with pytest.raises(KernelError, match=str(file)) as caught:
        wireguard.secrets(kind)
    assert caught.value.reason == "KeyUnreadable"
    assert content is None or content not in str(caught.value)


def test_all_interfaces_are_read_at_once() -> None:
    one, other = DUMP.splitlines(), DUMP.replace("51820\toff", "51821\toff").splitlines()[:1]
    text = "".join(f"{name}\t{line}\n" for name, lines in (("wg-b", one), ("wg-c", other)) for line in lines)
    assert wireguard.parse_dumps(text) == {
        "wg-b": wireguard.parse_dump(DUMP),
        "wg-c": wireguard.parse_dump("\n".join(other)),
    }
    assert wireguard.parse_dumps("") == {}


def test_a_private_key_is_compared_as_the_interface_shows_it() -> None:
    link = WireGuardLink(private_key=Key(value=b"\xff" * 32))
    assert wireguard.secrets(link).private == b"\xf8" + b"\xff" * 30 + b"\x7f"
