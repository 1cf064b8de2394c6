"""Prometheus metrics of this package, one set per registry.

Several clients, reflectors and controllers of a process share one registry, but a metric may be
registered there only once: :func:`of` gives everybody the same set. Without a registry the figures
go to a private one that nobody reads.
"""

import weakref

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Every metric of the package. Labels are short and bounded: no object names."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            "isthmus_client_requests",
            "Requests to API servers by client, verb, resource and status code (or kind of failure).",
            ("client", "verb", "resource", "code"),
            registry=registry,
        )
        self.request_seconds = Histogram(
            "isthmus_client_request_seconds",
            "Time to the complete answer of ordinary requests.",
            ("client", "verb"),
            buckets=_LATENCY,
            registry=registry,
        )
        self.client_limit = Gauge(
            "isthmus_client_concurrency_limit",
            "How many ordinary requests may be in flight at once.",
            ("client",),
            registry=registry,
        )
        self.watch_events = Counter(
            "isthmus_watch_events", "Watch events by type.", ("client", "resource", "type"), registry=registry
        )
        self.undecodable = Counter(
            "isthmus_undecodable_objects", "Objects skipped as undecodable.", ("client", "resource"), registry=registry
        )
        self.relists = Counter(
            "isthmus_relists", "Full lists by cause.", ("client", "resource", "cause"), registry=registry
        )
        self.repaired = Counter(
            "isthmus_resync_repaired",
            "Differences found by a resync that a watch should have told.",
            ("client", "resource"),
            registry=registry,
        )
        self.watch_age = Gauge(
            "isthmus_watch_last_contact_age_seconds",
            "Seconds since the server last said something on a watch.",
            ("client", "resource", "scope"),
            registry=registry,
        )
        self.stored = Gauge(
            "isthmus_store_objects", "Objects in a store.", ("client", "resource", "scope"), registry=registry
        )
        self.queue_depth = Gauge(
            "isthmus_queue_depth", "Keys ready to be worked on.", ("controller",), registry=registry
        )
        self.queue_delayed = Gauge(
            "isthmus_queue_delayed", "Keys planned for later.", ("controller",), registry=registry
        )
        self.queue_seconds = Histogram(
            "isthmus_queue_seconds",
            "Time from due to taken up.",
            ("controller",),
            buckets=_LATENCY,
            registry=registry,
        )
        self.reconciles = Counter(
            "isthmus_reconcile",
            "Reconciles by result: success, requeue, error, terminal.",
            ("controller", "result"),
            registry=registry,
        )
        self.reconcile_seconds = Histogram(
            "isthmus_reconcile_seconds", "Time of a reconcile.", ("controller",), buckets=_LATENCY, registry=registry
        )
        self.workers_busy = Gauge("isthmus_workers_busy", "Reconciles running.", ("controller",), registry=registry)
        self.events = Counter(
            "isthmus_events",
            "Kubernetes events by outcome: created, patched, dropped.",
            ("outcome",),
            registry=registry,
        )
        self.leading = Gauge("isthmus_leader", "1 while this process leads.", ("lease",), registry=registry)


# Keyed by registries that are passed in, and as short-lived as they are.
_sets: "weakref.WeakKeyDictionary[CollectorRegistry, Metrics]" = weakref.WeakKeyDictionary()


def of(registry: CollectorRegistry | None) -> Metrics:
    """Return the set of metrics of a registry; a private set for None."""
    if registry is None:
        return Metrics(CollectorRegistry())
    found = _sets.get(registry)
    if found is None:
        found = _sets[registry] = Metrics(registry)
    return found
