"""Counters and summaries of a server, shown as `mntr` lines and as Prometheus text from one registry.

Rules
- Recording costs an integer addition (counters) or a few (summaries), and is done once a batch: `observe_n`.
- Names, units and forms are ZooKeeper's (`ServerMetrics`, `DefaultMetricsProvider`, `PrometheusMetricsProvider`), so
  that dashboards keep working. Times are shown in milliseconds but observed in microseconds, because ours are short.
- `reset` (`srst`) starts the values of `mntr` anew. Prometheus counters never go back, as there.
- Bounded: a histogram has a fixed number of buckets, a set a fixed number of keys (what is more counts under `other`).

Not here: which metrics a server has (`server_metrics.py`), HTTP (`admin.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from corekit.limits import METRIC_KEYS_MAX

Number = int | float
Value = int | float | str

OTHER_KEY = "other"
KEY_LABEL = "key"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Log-linear histogram: values below 32 have a bucket each, above that every power of two has 16.
_LINEAR = 32
_MOST = (1 << 40) - 1  # in us: 12 days
_BUCKETS = 36 * 16 + 16
_PERCENTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999))
_QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)


def bucket_of(value: int) -> int:
    """The histogram bucket of a value of 0 to 2^40 - 1."""
    if value < _LINEAR:
        return value
    shift = value.bit_length() - 5
    return (shift << 4) + (value >> shift)


def bucket_middle(bucket: int) -> int:
    """A value in the middle of a bucket, at most 3.2 % from any in it."""
    if bucket < _LINEAR:
        return bucket
    shift = (bucket >> 4) - 1
    return ((bucket - (shift << 4)) << shift) + ((1 << shift) >> 1)


def quantile(counts: Iterable[int], total: int, q: float) -> int:
    """The value that a share `q` of `total` observations does not exceed, by nearest rank; 0 if there are none."""
    rank = max(1, -int(-q * total // 1))
    seen = 0
    for bucket, count in enumerate(counts):
        seen += count
        if seen >= rank:
            return bucket_middle(bucket)
    return 0


class Counter:
    """A number that only grows: add to `value` directly on hot paths.

    Attributes:
        value: since the server started.
    """

    __slots__ = ("_zero", "name", "value")

    def __init__(self, name: str) -> None:
        self.name = name
        self.value = 0
        self._zero = 0

    def add(self, count: int = 1) -> None:
        """Count."""
        self.value += count

    @property
    def since_reset(self) -> int:
        """Since the last `reset`."""
        return self.value - self._zero

    def reset(self) -> None:
        """Begin at 0 again for `since_reset`."""
        self._zero = self.value

    def monitor(self) -> Iterator[tuple[str, Value]]:
        """The lines of `mntr`, without prefix."""
        yield self.name, self.since_reset


class Summary:
    """Count, sum, smallest, largest and percentiles of observed numbers.

    Args:
        name: ZooKeeper's name.
        advanced: `mntr` also shows p50, p95, p99 and p999.
        scale: an observed number is shown divided by this (1000: observed in us, shown in ms).
    """

    __slots__ = (
        "_count_zero",
        "_counts_zero",
        "_marks",
        "_sum_zero",
        "advanced",
        "count",
        "counts",
        "least",
        "most",
        "name",
        "scale",
        "sum",
    )

    def __init__(self, name: str, advanced: bool = False, scale: int = 1) -> None:
        self.name = name
        self.advanced = advanced
        self.scale = scale
        self.count = 0
        self.sum = 0
        self.counts = [0] * _BUCKETS
        self.least = -1
        self.most = 0
        self._count_zero = 0
        self._sum_zero = 0
        self._counts_zero: list[int] | None = None
        self._marks: tuple[list[int] | None, list[int] | None] = (None, None)

    def observe(self, value: int) -> None:
        """One observation."""
        self.observe_n(value, 1)

    def observe_n(self, value: int, count: int) -> None:
        """The same value observed `count` times: a batch of requests that took equally long."""
        if value < 0:  # a clock that stepped back
            value = 0
        self.count += count
        self.sum += value * count
        if value > self.most:
            self.most = value
        if value < self.least or self.least < 0:
            self.least = value
        if value < _LINEAR:
            self.counts[value] += count
        else:
            if value > _MOST:
                value = _MOST
            shift = value.bit_length() - 5
            self.counts[(shift << 4) + (value >> shift)] += count

    def reset(self) -> None:
        """Begin anew for what `monitor` shows."""
        self._count_zero = self.count
        self._sum_zero = self.sum
        self._counts_zero = self.counts.copy()
        self.least = -1
        self.most = 0

    def rotate(self) -> None:
        """Move the window of `recent`: it reaches back to the last call but one."""
        self._marks = (self._marks[1], self.counts.copy())

    def monitor(self) -> Iterator[tuple[str, Value]]:
        """The lines of `mntr`, without prefix: whole numbers except for the mean, as ZooKeeper shows them."""
        name, scale = self.name, self.scale
        count = self.count - self._count_zero
        total = self.sum - self._sum_zero
        yield f"avg_{name}", round(total / scale / count, 4) if count else 0.0
        yield f"min_{name}", max(self.least, 0) // scale
        yield f"max_{name}", self.most // scale
        yield f"cnt_{name}", count
        yield f"sum_{name}", total // scale
        if self.advanced:
            counts = self._since(self._counts_zero)
            for prefix, q in _PERCENTILES:
                # A bucket's middle may lie above the largest value that was seen.
                yield f"{prefix}_{name}", min(round(quantile(counts, count, q) / scale), self.most // scale)

    def recent(self) -> dict[float, float]:
        """Quantiles of the last one to two rotations (of everything before the second), scaled; empty without any."""
        counts = self._since(self._marks[0])
        total = sum(counts)
        return {q: quantile(counts, total, q) / self.scale for q in _QUANTILES} if total else {}

    def _since(self, zero: list[int] | None) -> list[int]:
        if zero is None:
            return self.counts
        return [now - before for now, before in zip(self.counts, zero, strict=True)]


M = TypeVar("M", Counter, Summary)


class MetricSet(Generic[M]):
    """The same metric for each of several keys: namespaces, peers. In `mntr` the key stands before the name."""

    def __init__(self, name: str, make: Callable[[str], M]) -> None:
        self.name = name
        self.members: dict[str, M] = {}
        self._make: Callable[[str], M] = make

    def get(self, key: str) -> M:
        """The member for a key, made when it is new; above the bound all new keys share one."""
        member = self.members.get(key)
        if member is None:
            if len(self.members) >= METRIC_KEYS_MAX and key != OTHER_KEY:
                return self.get(OTHER_KEY)
            member = self.members[key] = self._make(f"{key}_{self.name}")
        return member


GaugeFunction = Callable[[], Number | None]
GaugeSetFunction = Callable[[], Mapping[str, Number]]


class Registry(Collector):
    """Every metric of one server, by name.

    `monitor` gives the lines of `mntr`; `exposition` the text that Prometheus reads.
    """

    def __init__(self) -> None:
        self._gauges: dict[str, GaugeFunction] = {}
        self._gauge_sets: dict[str, GaugeSetFunction] = {}
        self._counters: dict[str, Counter] = {}
        self._counter_sets: dict[str, MetricSet[Counter]] = {}
        self._summaries: dict[str, Summary] = {}
        self._summary_sets: dict[str, MetricSet[Summary]] = {}

    # ------------------------------------------------------------------------------------- declaration
    def gauge(self, name: str, value: GaugeFunction) -> None:
        """A value that is asked for when it is shown; None hides it for the moment."""
        self._free(name)
        self._gauges[name] = value

    def gauge_set(self, name: str, values: GaugeSetFunction) -> None:
        """Values by key, asked for when they are shown."""
        self._free(name)
        self._gauge_sets[name] = values

    def counter(self, name: str) -> Counter:
        """A new counter."""
        self._free(name)
        return self._counters.setdefault(name, Counter(name))

    def counter_set(self, name: str) -> MetricSet[Counter]:
        """Counters by key."""
        self._free(name)
        return self._counter_sets.setdefault(name, MetricSet(name, Counter))

    def summary(self, name: str, *, advanced: bool = False, scale: int = 1) -> Summary:
        """A new summary; see `Summary`."""
        self._free(name)
        return self._summaries.setdefault(name, Summary(name, advanced, scale))

    def summary_set(self, name: str, *, advanced: bool = False, scale: int = 1) -> MetricSet[Summary]:
        """Summaries by key."""
        self._free(name)
        return self._summary_sets.setdefault(name, MetricSet(name, lambda full: Summary(full, advanced, scale)))

    def _free(self, name: str) -> None:
        for kind in (
            *(self._gauges, self._gauge_sets, self._counters, self._counter_sets, self._summaries, self._summary_sets),
        ):
            if name in kind:
                raise ValueError(f"there is a metric {name} already")

    # -------------------------------------------------------------------------------------------- time
    def _all(self) -> Iterator[Counter | Summary]:
        yield from self._counters.values()
        for counters in self._counter_sets.values():
            yield from counters.members.values()
        yield from self._every_summary()

    def _every_summary(self) -> Iterator[Summary]:
        yield from self._summaries.values()
        for summaries in self._summary_sets.values():
            yield from summaries.members.values()

    def reset(self) -> None:
        """`srst`: what `monitor` shows begins at 0 again, gauges excepted."""
        for metric in self._all():
            metric.reset()

    def rotate(self) -> None:
        """Move the window of the Prometheus quantiles. Call about once a minute."""
        for summary in self._every_summary():
            summary.rotate()

    # ------------------------------------------------------------------------------------------ output
    def monitor(self) -> Iterator[tuple[str, Value]]:
        """All lines of `mntr` but the server's version and state: (name without `zk_`, value)."""
        for name, value_of in self._gauges.items():
            value = value_of()
            if value is not None:
                yield name, value
        for name, values_of in self._gauge_sets.items():
            for key, member in values_of().items():
                yield f"{key}_{name}", member
        for metric in self._all():
            yield from metric.monitor()

    def collect(self) -> Iterator[Metric]:
        """prometheus-client's interface for a collector."""
        for name, value_of in self._gauges.items():
            value = value_of()
            if value is not None:
                yield GaugeMetricFamily(name, name, value=value)
        for name, values_of in self._gauge_sets.items():
            gauges = GaugeMetricFamily(name, name, labels=(KEY_LABEL,))
            for key, member in values_of().items():
                gauges.add_metric((key,), member)
            yield gauges
        for name, counter in self._counters.items():
            yield from _counter_families(name, (("", counter),))
        for name, counters in self._counter_sets.items():
            yield from _counter_families(name, counters.members.items())
        for name, summary in self._summaries.items():
            yield _summary_family(name, (("", summary),))
        for name, summaries in self._summary_sets.items():
            yield _summary_family(name, summaries.members.items())

    def exposition(self, *others: Collector) -> bytes:
        """Prometheus text (`CONTENT_TYPE`) of this registry and of further collectors."""
        registry = CollectorRegistry(auto_describe=False)
        for collector in (self, *others):
            registry.register(collector)
        return generate_latest(registry)


def _counter_families(name: str, members: Iterable[tuple[str, Counter]]) -> Iterator[Metric]:
    """A counter under both of its names: with `_total` as ZooKeeper 3.10 has it, and without as 3.6 to 3.9 have it."""
    samples = [({KEY_LABEL: key} if key else {}, counter.value) for key, counter in members]
    family = CounterMetricFamily(name, name)
    plain = Metric(name, name, "untyped")
    for labels, value in samples:
        family.add_sample(f"{family.name}_total", labels, value)
        plain.add_sample(name, labels, value)
    yield family
    if not name.endswith("_total"):
        yield plain


def _summary_family(name: str, members: Iterable[tuple[str, Summary]]) -> SummaryMetricFamily:
    """prometheus-client has no quantiles of its own; they are plain samples."""
    family = SummaryMetricFamily(name, name)
    for key, summary in members:
        labels = {KEY_LABEL: key} if key else {}
        for q, value in summary.recent().items():
            family.add_sample(name, {**labels, "quantile": str(q)}, value)
        family.add_sample(f"{name}_count", labels, summary.count)
        family.add_sample(f"{name}_sum", labels, summary.sum / summary.scale)
    return family
