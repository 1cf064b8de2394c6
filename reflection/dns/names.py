"""How a name of the consumer's cluster is called at the provider, and back. Pure.

Names of clusters: github.com/kubernetes/dns, docs/specification.md. Any number of labels, then a namespace, `svc` or
`pod`, and the cluster's domain; only the namespace and the domain differ between the clusters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import dns.name

_KINDS: Final = (b"svc", b"pod")


class NameTable:
    """The names of one consumer at one provider."""

    def __init__(self, namespaces: Mapping[str, str], *, consumer_domain: str, provider_domain: str) -> None:
        """`namespaces`: the consumer's to the provider's. Raises `dns.exception.DNSException` for a bad domain."""
        self._there = {here.encode(): there.encode() for here, there in namespaces.items()}
        self._here = {there: here for here, there in self._there.items()}
        self.consumer_domain = dns.name.from_text(consumer_domain)
        self._provider_domain = dns.name.from_text(provider_domain)

    def there(self, name: dns.name.Name) -> dns.name.Name | None:
        """The provider's name for one of the consumer's; None if there is none: its namespace is not offloaded.

        A name with the provider's own name of one of our namespaces stands: pods know themselves by it (`hostname -f`).
        """
        split = _split(name, self.consumer_domain)
        if split is None:
            return name
        rest, namespace, kind = split
        found = self._there.get(namespace)
        if found is None and namespace in self._here:
            found = namespace
        return _join(rest, found, kind, self._provider_domain) if found is not None else None

    def here(self, name: dns.name.Name) -> dns.name.Name:
        """The consumer's name for one of the provider's; as it is if it is none of ours."""
        split = _split(name, self._provider_domain)
        if split is None:
            return name
        rest, namespace, kind = split
        found = self._here.get(namespace)
        made = _join(rest, found, kind, self.consumer_domain) if found is not None else None
        return name if made is None else made


def _split(name: dns.name.Name, domain: dns.name.Name) -> tuple[tuple[bytes, ...], bytes, bytes] | None:
    """(labels before the namespace, namespace, `svc` or `pod`) of a name that has all that; both in lower case."""
    if not name.is_subdomain(domain):
        return None
    labels = name.labels[: len(name.labels) - len(domain.labels)]
    if len(labels) < 2 or labels[-1].lower() not in _KINDS:
        return None
    return labels[:-2], labels[-2].lower(), labels[-1].lower()


def _join(rest: tuple[bytes, ...], namespace: bytes, kind: bytes, domain: dns.name.Name) -> dns.name.Name | None:
    try:
        return dns.name.Name((*rest, namespace, kind, *domain.labels))
    except dns.name.NameTooLong:
        return None
