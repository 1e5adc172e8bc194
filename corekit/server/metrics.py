"""Counters and summaries of a server, shown as `mntr` lines and as Prometheus text from one registry.

Rules
- Names, units and forms are ZooKeeper's (`ServerMetrics`, `DefaultMetricsProvider`, `PrometheusMetricsProvider`), so
  that dashboards keep working.
- `reset` (`srst`) starts the values of `mntr` anew. Prometheus counters never go back, as there.
- A set has a bounded number of keys; what is more counts under `other`.

Not here: which metrics a server has (`server_metrics.py`), HTTP (`admin.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from corekit.limits import METRIC_KEYS_MAX
from corekit.replica.instruments import Counter, Summary, Value

Number = int | float

OTHER_KEY = "other"
KEY_LABEL = "key"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

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


class Registry:
    """Every metric of one server, by name.

    `monitor` gives the lines of `mntr`; what Prometheus reads is made in `prometheus.py`.
    """

    def __init__(self) -> None:
        self._gauges: dict[str, GaugeFunction] = {}
        self._gauge_sets: dict[str, GaugeSetFunction] = {}
        self._counters: dict[str, Counter] = {}
        self._counter_sets: dict[str, MetricSet[Counter]] = {}
        self._summaries: dict[str, Summary] = {}
        self._summary_sets: dict[str, MetricSet[Summary]] = {}
        self._sampled: list[tuple[Counter, Callable[[], int]]] = []

    # ------------------------------------------------------------------------------------- declaration
    def add(self, *instruments: Counter | Summary) -> None:
        """Show instruments that somebody else records into."""
        for instrument in instruments:
            self._free(instrument.name)
            if isinstance(instrument, Counter):
                self._counters[instrument.name] = instrument
            else:
                self._summaries[instrument.name] = instrument

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

    def sampled_counter(self, name: str, source: Callable[[], int]) -> None:
        """A counter that somebody else keeps as a plain number which only grows."""
        self._sampled.append((self.counter(name), source))

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

    def _sample(self) -> None:
        for counter, source in self._sampled:
            counter.value = source()

    def reset(self) -> None:
        """`srst`: what `monitor` shows begins at 0 again, gauges excepted."""
        self._sample()
        for metric in self._all():
            metric.reset()

    def rotate(self) -> None:
        """Move the window of the Prometheus quantiles. Call about once a minute."""
        for summary in self._every_summary():
            summary.rotate()

    # ------------------------------------------------------------------------------------------ output
    def monitor(self) -> Iterator[tuple[str, Value]]:
        """All lines of `mntr` but the server's version and state: (name without `zk_`, value)."""
        self._sample()
        for name, value_of in self._gauges.items():
            value = value_of()
            if value is not None:
                yield name, value
        for name, values_of in self._gauge_sets.items():
            for key, member in values_of().items():
                yield f"{key}_{name}", member
        for metric in self._all():
            yield from metric.monitor()

    def families(self) -> Iterator[tuple[str, str, list[tuple[str, Number | Counter | Summary]]]]:
        """Everything: (`gauge`, `counter` or `summary`, name, members by key; "" is the key of one that has none)."""
        self._sample()
        for name, value_of in self._gauges.items():
            value = value_of()
            if value is not None:
                yield "gauge", name, [("", value)]
        for name, values_of in self._gauge_sets.items():
            yield "gauge", name, list(values_of().items())
        for name, counter in self._counters.items():
            yield "counter", name, [("", counter)]
        for name, counters in self._counter_sets.items():
            yield "counter", name, list(counters.members.items())
        for name, summary in self._summaries.items():
            yield "summary", name, [("", summary)]
        for name, summaries in self._summary_sets.items():
            yield "summary", name, list(summaries.members.items())
