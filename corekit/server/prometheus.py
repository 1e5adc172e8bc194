"""The metrics as Prometheus reads them. Imported when they are first asked for: prometheus-client loads a web server.

Not here: what is counted (`metrics.py`, `server_metrics.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from corekit.replica.instruments import Counter, Summary
from corekit.server.metrics import KEY_LABEL, Number, Registry


def exposition(registry: Registry, process: bool = False) -> bytes:
    """The text (`CONTENT_TYPE`) of a registry.

    Args:
        process: followed by metrics of the process and the interpreter.
    """
    shown = CollectorRegistry(auto_describe=False)
    shown.register(_Families(registry))
    if process:
        unused = CollectorRegistry()
        for collector in (ProcessCollector(registry=None), PlatformCollector(registry=None), GCCollector(unused)):
            shown.register(collector)
    return generate_latest(shown)


class _Families(Collector):
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for kind, name, members in self._registry.families():
            if kind == "gauge":
                yield _gauge_family(name, members)
            elif kind == "counter":
                yield from _counter_families(name, members)
            else:
                yield _summary_family(name, members)


def _labels(key: str) -> dict[str, str]:
    return {KEY_LABEL: key} if key else {}


def _gauge_family(name: str, members: Iterable[tuple[str, Number | Counter | Summary]]) -> Metric:
    family = GaugeMetricFamily(name, name)
    for key, value in members:
        assert isinstance(value, int | float)
        family.add_sample(name, _labels(key), value)
    return family


def _counter_families(name: str, members: Iterable[tuple[str, Number | Counter | Summary]]) -> Iterator[Metric]:
    """A counter under both of its names: with `_total` as ZooKeeper 3.10 has it, and without as 3.6 to 3.9 have it."""
    family = CounterMetricFamily(name, name)
    plain = Metric(name, name, "untyped")
    for key, counter in members:
        assert isinstance(counter, Counter)
        family.add_sample(f"{family.name}_total", _labels(key), counter.value)
        plain.add_sample(name, _labels(key), counter.value)
    yield family
    if not name.endswith("_total"):
        yield plain


def _summary_family(name: str, members: Iterable[tuple[str, Number | Counter | Summary]]) -> Metric:
    """prometheus-client has no quantiles of its own; they are plain samples."""
    family = SummaryMetricFamily(name, name)
    for key, summary in members:
        assert isinstance(summary, Summary)
        labels = _labels(key)
        for q, value in summary.recent().items():
            family.add_sample(name, {**labels, "quantile": str(q)}, value)
        family.add_sample(f"{name}_count", labels, summary.count)
        family.add_sample(f"{name}_sum", labels, summary.sum / summary.scale)
    return family
