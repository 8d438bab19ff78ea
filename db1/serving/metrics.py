"""Metrics of a policy server, as Prometheus reads them."""

from __future__ import annotations

from typing import Any

from db1.errors import MissingExtra

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class ServerMetrics:
    """Counters of one server.

    Raises:
        MissingExtra: Without prometheus_client.
    """

    def __init__(self) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError:
            raise MissingExtra("prometheus-client", "serve", "db1 serve") from None
        self._prometheus: Any = prometheus
        self._registry = prometheus.CollectorRegistry()
        make = {"registry": self._registry, "namespace": "db1"}
        self._sessions = prometheus.Gauge("sessions", "Open sessions.", **make)
        self._opened = prometheus.Counter("sessions_opened", "Sessions opened.", **make)
        self._closed = prometheus.Counter("sessions_closed", "Sessions ended.", ["by"], **make)
        self._refused = prometheus.Counter("refused", "Requests refused.", ["why"], **make)
        self._acts = prometheus.Histogram(
            "act_seconds", "Time of an action, from request to answer.", buckets=_SECONDS, **make
        )
        self._rows = prometheus.Histogram(
            "batch_rows", "Sessions in a forward pass.", buckets=_ROWS, **make
        )

    def opened(self) -> None:
        """A session was opened."""
        self._opened.inc()

    def closed(self, by: str) -> None:
        """A session ended: by its `client`, or by `silence`."""
        self._closed.labels(by).inc()

    def refused(self, why: str) -> None:
        """A request was refused: `token`, `session`, `busy`, `size`, `room` or `input`."""
        self._refused.labels(why).inc()

    def acted(self, seconds: float) -> None:
        """An action was chosen."""
        self._acts.observe(seconds)

    def batch(self, rows: int) -> None:
        """A forward pass of some rows was run."""
        self._rows.observe(rows)

    def text(self, sessions: int) -> bytes:
        """Everything in Prometheus' text format.

        Args:
            sessions: Open now.
        """
        self._sessions.set(sessions)
        return self._prometheus.generate_latest(self._registry)
