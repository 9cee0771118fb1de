"""Every metric of Pulse: its name, its meaning, its labels. docs/reference/metrics.md lists them.

A process exports its own metrics. Gauges of the whole database are exported by one process at a
time (pulse/application/database_gauges.py). No label has an order id, a key, a path or a caller.
"""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from typing import Final, Literal, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from pulse.code_version import code_version

disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

REQUEST_BUCKETS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0),
)
FLUSH_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
BATCH_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
LATENESS_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class MetricDescription(NamedTuple):
    """A metric as documented. `of_database`: a gauge of the whole database."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    of_database: bool = False


EVERY_METRIC: Final[list[MetricDescription]] = []
"""Every metric, in the order in which they are documented."""


def _counter(name: str, meaning: str, *labels: str) -> Counter:
    EVERY_METRIC.append(MetricDescription(name, "counter", labels, meaning))
    return Counter(name, meaning, labels, registry=REGISTRY)


def _gauge(name: str, meaning: str, *labels: str) -> Gauge:
    EVERY_METRIC.append(MetricDescription(name, "gauge", labels, meaning))
    return Gauge(name, meaning, labels, registry=REGISTRY)


def _histogram(name: str, meaning: str, buckets: Iterable[float], *labels: str) -> Histogram:
    EVERY_METRIC.append(MetricDescription(name, "histogram", labels, meaning))
    return Histogram(name, meaning, labels, registry=REGISTRY, buckets=tuple(buckets))


BUILD_INFO: Final = _gauge(
    "pulse_build_info", "1, with the version and the commit of the code.", "version", "commit"
)

# HTTP


OTHER_METHOD: Final = "other"
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


class _Requests(Collector):
    """Counts and times requests, in one event loop.

    A request costs one lookup and two additions, without a lock. A scrape computes a counter and a
    histogram from the sums.
    """

    _LABELS: Final = ("method", "route", "status")
    _COUNTER: Final = (
        "pulse_http_requests_total",
        "Requests, when they have ended. Status 0: the client disconnected before the answer.",
    )
    _HISTOGRAM: Final = (
        "pulse_http_request_seconds",
        "Time from the request's head until its answer began.",
    )

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str, int], list[float]] = {}
        EVERY_METRIC.append(
            MetricDescription(self._COUNTER[0], "counter", self._LABELS, self._COUNTER[1])
        )
        name, meaning = self._HISTOGRAM
        EVERY_METRIC.append(MetricDescription(name, "histogram", self._LABELS, meaning))
        REGISTRY.register(self)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request. A new route or status adds series. Unknown methods share one label."""
        cell = self._cells.get((method, route, status)) or self._cell(method, route, status)
        cell[bisect_left(REQUEST_BUCKETS, seconds)] += 1
        cell[-1] += seconds

    def _cell(self, method: str, route: str, status: int) -> list[float]:
        """A count for each bucket and for higher values, then the sum of the times."""
        known = method if method in _METHODS else OTHER_METHOD
        return self._cells.setdefault((known, route, status), [0.0] * (len(REQUEST_BUCKETS) + 2))

    def collect(self) -> Iterable[Metric]:
        """The counter and the histogram."""
        counter = CounterMetricFamily(*self._COUNTER, labels=self._LABELS)
        histogram = HistogramMetricFamily(*self._HISTOGRAM, labels=self._LABELS)
        bounds = (*(str(bound) for bound in REQUEST_BUCKETS), "+Inf")
        for (method, route, status), cell in list(self._cells.items()):
            labels = (method, route, str(status))
            *counts, seconds = list(cell)
            cumulated = list(accumulate(counts))
            counter.add_metric(labels, cumulated[-1])
            buckets = list(zip(bounds, cumulated, strict=True))
            histogram.add_metric(labels, buckets, sum_value=seconds)
        return counter, histogram


HTTP_REQUESTS: Final = _Requests()
HTTP_IN_FLIGHT: Final = _gauge(
    "pulse_http_requests_in_flight",
    "Requests being processed, as the limit PULSE_MAX_REQUESTS_IN_FLIGHT counts them.",
)

# The log

APPEND_BATCH_EVENTS: Final = _histogram(
    "pulse_append_batch_events", "Events in a commit to the log.", BATCH_BUCKETS
)
APPEND_FLUSH_SECONDS: Final = _histogram(
    "pulse_append_flush_seconds",
    "Time of a commit to the log: from the statement until the answer of Postgres.",
    FLUSH_BUCKETS,
)
APPEND_QUEUE_EVENTS: Final = _gauge(
    "pulse_append_queue_events",
    "Events whose append has no answer yet, as PULSE_APPEND_QUEUE_EVENTS counts them.",
)
PROCESS_NOTICES: Final = _gauge(
    "pulse_process_notices",
    "1 while this process has the notice, otherwise 0, and whether the notice needs a person.",
    *("code", "needs_person"),
)
PROJECTED_EVENTS: Final = _counter(
    "pulse_projected_events_total", "Events that this process projected."
)

# Orders and slices, by what this process wrote

OUTCOMES: Final = _counter(
    "pulse_outcomes_total",
    "Outcomes of orders that this process wrote, by type of event; the reason of a failure.",
    *("type", "reason"),
)
for _type, _reason in (
    ("SlicesScheduled", ""),
    ("SplittingFailed", "TOO_LATE"),
    ("SplittingFailed", "SPLITTING_ERROR"),
    ("TimedOut", "TIMED_OUT"),
    ("OrderCancelled", ""),
):
    OUTCOMES.labels(_type, _reason)  # created at 0, so that increase() counts the first one
SLICES_SETTLED: Final = _counter(
    "pulse_slices_settled_total",
    "Slices that this process's releaser released or expired.",
    "state",
)
SLICES_RELEASED: Final = SLICES_SETTLED.labels("released")
SLICES_EXPIRED: Final = SLICES_SETTLED.labels("expired")
RELEASE_LATENESS: Final = _histogram(
    "pulse_release_lateness_seconds",
    "Time from a slice's scheduled time until its release was stored.",
    LATENESS_BUCKETS,
)

# Lists

LIST_READS: Final = _counter(
    "pulse_list_reads_total", "Reads of lists, by the server that answered.", "server"
)
LIST_FALLBACKS: Final = _counter(
    "pulse_list_fallbacks_total",
    "Reads of lists that the primary answered because the replica is unavailable or behind.",
    "reason",
)
for _label in ("unavailable", "behind"):
    LIST_FALLBACKS.labels(_label)  # created at 0, so that increase() counts the first one

# The process

POOL_CONNECTIONS: Final = _gauge(
    "pulse_pool_connections", "Connections of the pool: idle, or in_use.", "state"
)
POOL_WAITING: Final = _gauge("pulse_pool_waiting", "Calls that wait for a connection of the pool.")
RETRIES: Final = _counter(
    "pulse_retries_total",
    "Retries after a failure: of appends, connections, reads, background loops, calls of the "
    "gateway to the API, and posts of checkpoints.",
)
CLOCK_OFFSET: Final = _gauge(
    "pulse_clock_offset_seconds", "How far this process's clock is ahead of the database's."
)
LOG_LINES_DROPPED: Final = _counter(
    "pulse_log_lines_dropped_total",
    "Request lines that were dropped, because the log was written too slowly or failed.",
)
PROCESSES_MISSING: Final = MetricDescription(
    "pulse_processes_missing",
    "gauge",
    (),
    "Processes of `pulse up --processes` that this scrape has no metrics of: they do not run, or "
    "did not answer within 1 s.",
)
EVERY_METRIC.append(PROCESSES_MISSING)


class _DatabaseGauges(Collector):
    """The gauges of the whole database. Nothing is exported unless `exported` is set."""

    def __init__(self) -> None:
        self.exported = False
        self._gauges: list[Gauge] = []
        REGISTRY.register(self)

    def gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        """A new gauge of the whole database."""
        EVERY_METRIC.append(MetricDescription(name, "gauge", labels, meaning, of_database=True))
        gauge = Gauge(name, meaning, labels, registry=None)
        self._gauges.append(gauge)
        return gauge

    def describe(self) -> Iterable[Metric]:
        """Their names, for the registry's check for duplicates."""
        return [metric for gauge in self._gauges for metric in gauge.describe()]

    def collect(self) -> Iterable[Metric]:
        """Their values, if exported."""
        if self.exported:
            for gauge in self._gauges:
                yield from gauge.collect()


DATABASE_GAUGES: Final = _DatabaseGauges()

ORDERS: Final = DATABASE_GAUGES.gauge(
    "pulse_orders",
    "Orders by order_queue_status. COMPLETED, CANCELLED and FAILED of a large queue are estimated, "
    "and counted less often.",
    "status",
)
OLDEST_PENDING: Final = DATABASE_GAUGES.gauge(
    "pulse_oldest_pending_seconds",
    "Age of the oldest order that waits for a worker. 0 if none waits.",
)
LAG_EVENTS: Final = DATABASE_GAUGES.gauge(
    "pulse_projection_lag_events",
    "Positions of the log that are not projected. A position may have no event.",
)
LAG_SECONDS: Final = DATABASE_GAUGES.gauge(
    "pulse_projection_lag_seconds", "Age of the first event that is not projected. 0 if all are."
)
PARKED: Final = DATABASE_GAUGES.gauge("pulse_parked_orders", "Orders that are parked.")
CLAIMS: Final = DATABASE_GAUGES.gauge(
    "pulse_claims", "Orders that workers hold, by whether the worker is present or gone.", "worker"
)
WORKERS: Final = DATABASE_GAUGES.gauge("pulse_workers", "Workers that are present.")
SLICES_DUE: Final = DATABASE_GAUGES.gauge(
    "pulse_slices_due",
    "Slices that are due and not settled. Counts only the 1,000 orders due for the longest time.",
)
OLDEST_DUE: Final = DATABASE_GAUGES.gauge(
    "pulse_oldest_due_seconds", "How long the oldest due slice has been due. 0 if none is due."
)
HALTS: Final = DATABASE_GAUGES.gauge("pulse_halts", "Halts in force.")
SEAL_LAG_EVENTS: Final = DATABASE_GAUGES.gauge(
    "pulse_seal_lag_events",
    "Positions of the log that are not sealed, all if it was never sealed. A position may have no "
    "event.",
)
NOTICES: Final = DATABASE_GAUGES.gauge(
    "pulse_notices",
    "1 for each notice about the database, and whether it needs a person.",
    *("code", "needs_person"),
)
OF_DATABASE: Final = frozenset(metric.name for metric in EVERY_METRIC if metric.of_database)
"""The names of the gauges of the whole database."""


def export_build_info() -> None:
    """Set pulse_build_info. It may run git, which takes some milliseconds."""
    version, _, commit = code_version().partition("+")
    BUILD_INFO.labels(version, commit).set(1)


def count_outcome(event_type: str, reason: str = "") -> None:
    """Count an outcome that this process wrote. The reason is a code, never a text of a caller."""
    OUTCOMES.labels(event_type, reason).inc()
