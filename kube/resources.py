"""The resources we speak of, as data, and the URL paths they make.

Paths are always built here from validated parts, never taken from outside: a name with a slash,
a percent sign or dots only cannot leave its place (abuse test A11).
"""

import re
from dataclasses import dataclass

# The API server's own floor for a path segment (apimachinery validation/path/name.go) forbids "/", "%", "." and
# ".."; this is narrower, and holds RFC 1123 subdomains as well as RBAC and CSR names such as "system:node:a".
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:~-]{0,252}")
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SUBRESOURCE = re.compile(r"[a-z]{1,40}")


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object: where it lives in the API and what its objects call themselves."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    bookmarks: bool = True
    """Whether its watches get bookmarks: those that API servers keep no watch cache of have none (kubeapiserver,
    DefaultWatchCacheSizes), so that silence says nothing there and the position grows old."""

    @property
    def api_version(self) -> str:
        """The ``apiVersion`` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, *, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the absolute URL path of a collection, an object or a subresource.

        Raises ValueError for parts that are no Kubernetes names or do not fit together. A namespaced
        resource without namespace and name is the collection over all namespaces.
        """
        parts = [f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"]
        if namespace is not None:
            if not self.namespaced:
                raise ValueError(f"{self.plural} have no namespace")
            parts.append(f"namespaces/{_checked(namespace, pattern=_NAMESPACE, what='namespace')}")
        elif self.namespaced and name is not None:
            raise ValueError(f"{self.plural} need a namespace")
        parts.append(self.plural)
        if name is not None:
            parts.append(_checked(name, pattern=_NAME, what="name"))
        if subresource is not None:
            if name is None:
                raise ValueError("a subresource needs a name")
            parts.append(_checked(subresource, pattern=_SUBRESOURCE, what="subresource"))
        return "/".join(parts)


def _checked(value: str, *, pattern: re.Pattern[str], what: str) -> str:
    if not pattern.fullmatch(value):
        raise ValueError(f"not a valid {what}: {value[:80]!r}")
    return value


PODS = Resource("", "v1", "pods", "Pod")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
SECRETS = Resource("", "v1", "secrets", "Secret")
EVENTS = Resource("", "v1", "events", "Event", bookmarks=False)
SERVICES = Resource("", "v1", "services", "Service")
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
RESOURCE_QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
CSRS = Resource(
    "certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", namespaced=False
)
TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", namespaced=False)
SUBJECT_ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
SELF_SUBJECT_ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)
POD_METRICS = Resource("metrics.k8s.io", "v1beta1", "pods", "PodMetrics")
NODE_METRICS = Resource("metrics.k8s.io", "v1beta1", "nodes", "NodeMetrics", namespaced=False)
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
