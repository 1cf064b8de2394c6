"""Settings of a virtual node: what is refused, and what NodeRestriction would refuse."""

from collections.abc import Mapping

import pytest

from kube.quantities import Quantity
from vk.node.settings import DEFAULT_TAINT, NodeSettings, SettingsError, Taint, label_allowed, parse_resources


def _settings(
    *, name: str = "vk-1", addresses: tuple[str, ...] = ("198.18.0.7",), labels: Mapping[str, str] | None = None
) -> NodeSettings:
    return NodeSettings(name=name, addresses=addresses, labels=labels or {})


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a..b", "a/b", "a" * 254, "a\n"])
def test_node_name_is_an_rfc1123_subdomain(name: str) -> None:
    with pytest.raises(SettingsError):
        _settings(name=name)


@pytest.mark.parametrize("name", ["a", "vk-1", "vk.provider-2.example", "a" * 253])
def test_good_node_names(name: str) -> None:
    assert _settings(name=name).taints == (DEFAULT_TAINT,)


@pytest.mark.parametrize("addresses", [(), ("localhost",), ("0.0.0.0",), ("224.0.0.1",), ("198.18.0.7", "198.18.0.7")])
def test_addresses_are_ones_to_connect_to(addresses: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError):
        _settings(addresses=addresses)


@pytest.mark.parametrize(
    ("label", "allowed"),
    [
        # plugin/pkg/admission/noderestriction/admission.go getForbiddenLabels, kubelet well_known_labels.go
        ("example.com/gpu", True),
        ("plain", True),
        ("topology.kubernetes.io/zone", True),
        ("node.kubernetes.io/instance-type", True),
        ("node.kubernetes.io/exclude-from-external-load-balancers", True),
        ("x.node.kubernetes.io/anything", True),
        ("kubelet.kubernetes.io/anything", True),
        ("node-role.kubernetes.io/worker", False),
        ("node-restriction.kubernetes.io/x", False),
        ("team.node-restriction.kubernetes.io/x", False),
        ("app.kubernetes.io/managed-by", False),
        ("k8s.io/x", False),
        ("kubernetes.io/role", False),
    ],
)
def test_labels_that_a_node_may_set_on_itself(label: str, allowed: bool) -> None:
    assert label_allowed(label) is allowed
    if allowed:
        assert _settings(labels={label: "v"}).labels == {label: "v"}
    else:
        with pytest.raises(SettingsError, match="NodeRestriction"):
            _settings(labels={label: "v"})


@pytest.mark.parametrize("labels", [{"a b": "x"}, {"x": "a b"}, {"x": "a" * 64}, {"offloading.isthmus.dev/node": "x"}])
def test_labels_that_no_api_server_takes(labels: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        _settings(labels=labels)


def test_taints_are_written_as_kubectl_writes_them() -> None:
    assert Taint.parse("a.example/b=c:NoExecute") == Taint("a.example/b", "c", "NoExecute")
    assert Taint.parse("only-key:NoSchedule") == Taint("only-key", "", "NoSchedule")
    for wrong in ("a=b", "a=b:Never", ":NoSchedule", "a=b c:NoSchedule"):
        with pytest.raises(SettingsError):
            Taint.parse(wrong)


def test_resources_from_a_flag() -> None:
    resources = parse_resources("cpu=1500m, memory=8Gi,pods=110,nvidia.com/gpu=2,hugepages-2Mi=4Mi")
    assert resources["cpu"] == Quantity.parse("1.5")
    assert str(resources["memory"]) == "8Gi"
    assert set(resources) == {"cpu", "memory", "pods", "nvidia.com/gpu", "hugepages-2Mi"}


@pytest.mark.parametrize("text", ["cpu", "cpu=x", "cpu=-1", "pods=1.5", "gpu=1", "cpu=1,cpu=2", "nvidia.com/gpu=500m"])
def test_resources_that_no_api_server_takes(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_resources(text)
