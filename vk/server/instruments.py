"""The server's own metrics."""

from __future__ import annotations

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram


class Instruments:
    """Counters of one server, in one registry."""

    def __init__(self, registry: prometheus_client.CollectorRegistry) -> None:
        self.requests = Counter(
            "isthmus_kubelet_http_requests",
            "Requests answered, by route, method and status code.",
            ["route", "method", "code"],
            registry=registry,
        )
        self.duration = Histogram(
            "isthmus_kubelet_http_request_duration_seconds",
            "Time from a request's head to its answer's head, by route.",
            ["route"],
            registry=registry,
        )
        self.streams = Gauge(
            "isthmus_kubelet_streams_open",
            "Streams open now (logs being followed, exec, attach, port-forward), by route.",
            ["route"],
            registry=registry,
        )
        self.bytes = Counter(
            "isthmus_kubelet_stream_bytes",
            "Bytes carried by streams, by route and direction (in: from the caller).",
            ["route", "direction"],
            registry=registry,
        )
        self.dropped = Counter(
            "isthmus_kubelet_connections_dropped",
            "Connections of unknown callers that were dropped to make room for new ones.",
            registry=registry,
        )
        self.pending = Gauge(
            "isthmus_kubelet_connections_pending",
            "Connections whose caller is not known yet.",
            registry=registry,
        )
