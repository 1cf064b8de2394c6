import pytest

from kube.resources import CSRS, NODES, POD_METRICS, PODS


def test_paths() -> None:
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path(namespace="x") == "/api/v1/namespaces/x/pods"
    assert PODS.path(namespace="x", name="y", subresource="status") == "/api/v1/namespaces/x/pods/y/status"
    assert NODES.path(name="n") == "/api/v1/nodes/n"
    assert POD_METRICS.path(namespace="x", name="y") == "/apis/metrics.k8s.io/v1beta1/namespaces/x/pods/y"
    assert CSRS.path(name="system:node:a") == ("/apis/certificates.k8s.io/v1/certificatesigningrequests/system:node:a")
    assert PODS.api_version == "v1"
    assert CSRS.api_version == "certificates.k8s.io/v1"


@pytest.mark.parametrize(
    "bad",
    ["", ".", "..", "a/b", "a%2fb", "%2e%2e%2f", "..;", "a b", "a\0", "a\r\nb", "a?b", "a#b", "a\\b", "é", "x" * 65536],
)
def test_a11_a_name_cannot_leave_its_place(bad: str) -> None:
    with pytest.raises(ValueError, match="not a valid name"):
        PODS.path(namespace="x", name=bad)
    with pytest.raises(ValueError, match="not a valid namespace"):
        PODS.path(namespace=bad)
    with pytest.raises(ValueError, match="not a valid subresource"):
        PODS.path(namespace="x", name="y", subresource=bad)


def test_parts_that_do_not_fit_together() -> None:
    with pytest.raises(ValueError, match="no namespace"):
        NODES.path(namespace="x")
    with pytest.raises(ValueError, match="need a namespace"):
        PODS.path(name="x")
    with pytest.raises(ValueError, match="needs a name"):
        PODS.path(namespace="x", subresource="status")
