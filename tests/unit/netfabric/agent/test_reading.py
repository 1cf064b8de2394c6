"""Desired states are read whole or refused by the name of a field."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netfabric._pb import fabric_pb2 as pb
from netfabric.agent import reading
from netfabric.agent.errors import InvalidStateError
from netfabric.agent.model import OverlayLink, Role, WireGuardLink
from tests.unit.netfabric.agent.states import KEY, PUBLIC, gateway, second_peer


def test_a_whole_state_is_read() -> None:
    desired = reading.read(gateway())
    assert desired.role is Role.GATEWAY
    wireguard, overlay = desired.links[0].kind, desired.links[1].kind
    assert isinstance(wireguard, WireGuardLink)
    assert wireguard.private_key.value == KEY
    assert wireguard.peers[0].endpoint == ("gw.example", 51820)
    assert isinstance(overlay, OverlayLink)
    assert (overlay.port, overlay.technology) == (6091, None)
    assert [str(prefix.seen) for prefix in desired.peers[0].prefixes] == ["10.71.0.0/16", "fd71::/48"]


def test_a_key_is_in_no_text_of_a_state() -> None:
    text = repr(reading.read(gateway()))
    assert KEY.hex() not in text
    assert repr(KEY) not in text
    assert "value" not in text


Change = Callable[[pb.DesiredState], object]
WRONG: dict[str, tuple[str, Change]] = {
    "role": ("role", lambda s: setattr(s, "role", 0)),
    "link-name": ("links[0].name", lambda s: setattr(s.links[0], "name", "Wg_B")),
    "link-name-long": ("links[0].name", lambda s: setattr(s.links[0], "name", "a" * 16)),
    "link-name-host": ("links[0].name", lambda s: setattr(s.links[0], "name", "eth0")),
    "link-kind": ("links[1].kind", lambda s: s.links[1].ClearField("overlay")),
    "link-twice": ("links[1].name", lambda s: setattr(s.links[1], "name", "wg-b")),
    "mtu": ("links[0].mtu", lambda s: setattr(s.links[0], "mtu", 600)),
    "address": ("links[0].addresses[2]", lambda s: s.links[0].addresses.append("169.254.1.1")),
    "address-twice": ("links[1].addresses[1]", lambda s: s.links[1].addresses.append("169.254.18.1/32")),
    "key": ("links[0].wireguard.private_key.value", lambda s: _key(s, b"short")),
    "key-file": ("links[0].wireguard.private_key", lambda s: setattr(s.links[0].wireguard.private_key, "file", "k")),
    "public-key": ("links[0].wireguard.peers[0].public_key", lambda s: _wg(s, public_key=b"x")),
    "endpoint": ("links[0].wireguard.peers[0].endpoint", lambda s: _wg(s, endpoint="fd00::1:51820")),
    "endpoint-port": ("links[0].wireguard.peers[0].endpoint", lambda s: _wg(s, endpoint="a:99999")),
    "endpoint-line": ("links[0].wireguard.peers[0].endpoint", lambda s: _wg(s, endpoint="a\nPrivateKey=:1")),
    "default-route-inside": ("links[0].wireguard.peers[0].allowed_ips[0]", lambda s: _wg(s, allowed_ips=["0.0.0.0/0"])),
    "vni": ("links[1].overlay.vni", lambda s: setattr(s.links[1].overlay, "vni", 2**24)),
    "outer": ("links[1].overlay.remote", lambda s: setattr(s.links[1].overlay, "remote", "fd00::1")),
    "peer-number": ("peers[0].number", lambda s: setattr(s.peers[0], "number", 4096)),
    "peer-link": ("peers[0].links[0]", lambda s: s.peers[0].links.__setitem__(0, "wg-x")),
    "peer-no-link": ("peers[0].links", lambda s: s.peers[0].ClearField("links")),
    "host-bits": ("peers[0].prefixes[0].real", lambda s: _prefix(s, real="10.244.0.1/16")),
    "lengths": ("peers[0].prefixes[0].seen", lambda s: _prefix(s, seen="10.71.0.0/17")),
    "families": ("peers[0].prefixes[0].seen", lambda s: _prefix(s, seen="fd71::/16")),
    "source": ("peers[0].policy.sources[0]", lambda s: s.peers[0].policy.sources.append("10.1.0.0/16")),
    "route-link": ("routes[0].link", lambda s: setattr(s.routes[0], "link", "nope")),
    "route-family": ("routes[0].via", lambda s: setattr(s.routes[0], "via", "fd00::1")),
    "route-to-peer": ("routes[0].link", lambda s: setattr(s.routes[0], "link", "wg-b")),
    "export": ("exports[0].shown", lambda s: s.exports.add(shown="10.1.1.1/32", target="10.2.2.2/32")),
    "masquerade": ("masquerades[0].link", lambda s: s.masquerades.add(link="x", address="10.0.0.1")),
    "probe": ("probes[0].port", lambda s: s.probes.add(name="b", address="10.0.0.1")),
    "transit": ("peers[0].policy.transit[0]", lambda s: s.peers[0].policy.transit.append("nobody")),
}


def _key(state: pb.DesiredState, value: bytes) -> None:
    state.links[0].wireguard.private_key.value = value


def _wg(state: pb.DesiredState, **fields: object) -> None:
    peer = state.links[0].wireguard.peers[0]
    for name in fields:
        peer.ClearField(name)  # type: ignore[arg-type]
    peer.MergeFrom(pb.WireGuardPeer(**fields))  # type: ignore[arg-type]


def _prefix(state: pb.DesiredState, **fields: str) -> None:
    state.peers[0].prefixes[0].MergeFrom(pb.PrefixMap(**fields))


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_is_named(case: str) -> None:
    path, change = WRONG[case]
    state = gateway()
    change(state)
    with pytest.raises(InvalidStateError) as caught:
        reading.read(state)
    assert caught.value.path == path, caught.value
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("real", "seen", "words"),
    [
        ("10.0.0.0/7", "12.0.0.0/7", "too wide"),
        ("0.0.0.0/0", "0.0.0.0/0", "too wide"),
        ("::/0", "::/0", "too wide"),
        ("10.244.0.0/16", "10.244.0.0/16", "this cluster's own"),
        ("10.1.0.0/24", "10.244.3.0/24", "this cluster's own"),
        ("127.0.0.0/8", "127.0.0.0/8", "loopback"),
        ("224.0.0.0/8", "224.0.0.0/8", "multicast"),
    ],
)
def test_a40_a_peer_that_announces_what_is_not_its_own(real: str, seen: str, words: str) -> None:
    state = gateway()
    state.peers[0].prefixes[0].CopyFrom(pb.PrefixMap(real=real, seen=seen))
    with pytest.raises(InvalidStateError, match=words) as caught:
        reading.read(state)
    assert caught.value.path.startswith("peers[0].prefixes[0].")


def test_a40_a_peer_that_announces_what_is_another_peers() -> None:
    state = gateway()
    second_peer(state).prefixes[0].seen = "10.71.0.0/16"
    with pytest.raises(InvalidStateError, match="peer 'b'") as caught:
        reading.read(state)
    assert caught.value.path == "peers[1].prefixes[0].seen"


def test_peers_may_have_the_same_real_addresses_but_then_no_transit() -> None:
    state = gateway()
    second_peer(state)
    reading.read(state)
    state.peers[0].policy.transit.append("c")
    with pytest.raises(InvalidStateError, match="no transit"):
        reading.read(state)


def test_masquerading_exports_and_peers_with_the_same_addresses_do_not_go_together() -> None:
    state = gateway()
    state.exports.add(shown="10.244.255.1/32", target="192.0.2.1/32", masquerade=True)
    reading.read(state)
    second_peer(state)
    with pytest.raises(InvalidStateError) as caught:
        reading.read(state)
    assert caught.value.path == "exports[0].masquerade"


@pytest.mark.parametrize("field", ["peers", "exports", "masquerades"])
def test_a_node_has_nothing_of_a_gateway(field: str) -> None:
    state = gateway()
    state.role = pb.ROLE_NODE
    state.ClearField("routes")
    for other in {"peers", "exports", "masquerades"} - {field}:
        state.ClearField(other)  # type: ignore[arg-type]
    getattr(state, field) or getattr(state, field).add()
    with pytest.raises(InvalidStateError):
        reading.read(state)


TEXT = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "10.0.0.0/8", "fd00::/8", "10.1.1.1", "fe80::1%eth0", "wg-b", "a:1", "[::1]:5", "/key"]),
)


def _fill(message: Message, data: st.DataObject, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if not data.draw(st.booleans()):
            continue
        if field.message_type is not None:
            if depth:
                target = getattr(message, field.name)
                _fill(target.add() if field.is_repeated else target, data, depth - 1)
                if not field.is_repeated:
                    target.SetInParent()
        else:
            value = data.draw(_value(field))
            if field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)


def _value(field: object) -> st.SearchStrategy[object]:
    kind = field.type  # type: ignore[attr-defined]
    if kind == 9:
        return TEXT
    if kind == 12:
        return st.sampled_from([b"", b"x", PUBLIC])
    if kind == 8:
        return st.booleans()
    return st.sampled_from([0, 1, 2, 3, 4095, 65535, 65536, 2**24, 2**31 - 1])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)
@given(st.data())
def test_whatever_comes_is_read_or_refused_by_name(data: st.DataObject) -> None:
    state = pb.DesiredState()
    _fill(state, data, depth=3)
    path = _refusal(pb.DesiredState.FromString(state.SerializeToString()))
    assert not path or re.split(r"[.[]", path)[0] in pb.DesiredState.DESCRIPTOR.fields_by_name


def _refusal(state: pb.DesiredState) -> str:
    try:
        reading.read(state)
    except InvalidStateError as error:
        return error.path
    return ""


@pytest.mark.parametrize(
    ("shown", "target", "path"),
    [
        ("10.99.0.0", "169.254.20.2", "probe_answers[0].shown"),
        ("10.244.0.0", "10.9.0.2", "probe_answers[0].target"),
        ("10.244.0.0", "169.254.18.2", "probe_answers[0].target"),
        ("10.244.0.0", "fd20::2", "probe_answers[0].target"),
    ],
    ids=["not ours", "no link's", "the peer's own", "family"],
)
def test_probes_are_handed_to_the_other_end_of_a_link_inside_only(shown: str, target: str, path: str) -> None:
    state = gateway()
    state.links[1].neighbours.append("169.254.20.2")
    state.probe_answers.add(shown="10.244.0.0", target="169.254.20.2")
    reading.read(state)
    state.probe_answers[0].CopyFrom(pb.ProbeAnswer(shown=shown, target=target))
    with pytest.raises(InvalidStateError) as caught:
        reading.read(state)
    assert caught.value.path == path


def test_a_peer_is_asked_at_its_own_addresses_only() -> None:
    state = gateway()
    state.peers[0].policy.probed.append("10.245.0.0")
    with pytest.raises(InvalidStateError) as caught:
        reading.read(state)
    assert caught.value.path == "peers[0].policy.probed[0]"
