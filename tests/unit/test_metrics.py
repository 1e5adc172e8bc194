"""The metrics registry: exact values where they are exact, bounds where they are not, and both outputs."""

from __future__ import annotations

import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from corekit.limits import METRIC_KEYS_MAX
from corekit.replica.instruments import Counter, Summary, bucket_middle, bucket_of
from corekit.server.metrics import OTHER_KEY, Registry
from corekit.server.prometheus import exposition

values = st.integers(0, (1 << 40) - 1)


@given(values)
def test_a_bucket_stands_for_nearby_values(value: int) -> None:
    assert abs(bucket_middle(bucket_of(value)) - value) <= value * 0.032


@given(values, values)
def test_buckets_rise_with_values(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert bucket_of(low) <= bucket_of(high)


@given(st.lists(st.tuples(st.integers(-5, 1 << 45), st.integers(1, 50)), min_size=1, max_size=40))
def test_a_summary_agrees_with_the_list_of_its_observations(batches: list[tuple[int, int]]) -> None:
    summary = Summary("x", advanced=True)
    every: list[int] = []
    for value, count in batches:
        summary.observe_n(value, count)
        every += [max(value, 0)] * count
    every.sort()
    lines = dict(summary.monitor())
    assert lines["cnt_x"] == len(every)
    assert lines["sum_x"] == sum(every)
    assert lines["min_x"] == every[0]
    assert lines["max_x"] == every[-1]
    assert lines["avg_x"] == round(sum(every) / len(every), 4)
    for name, q in (("p50_x", 0.5), ("p95_x", 0.95), ("p99_x", 0.99), ("p999_x", 0.999)):
        exact = every[max(0, -int(-q * len(every) // 1) - 1)]
        got = lines[name]
        assert isinstance(got, int)
        if exact < 1 << 40:
            assert abs(got - exact) <= exact * 0.032 + 1


def test_the_lines_of_a_summary_in_milliseconds() -> None:
    registry = Registry()
    latency = registry.summary("readlatency", advanced=True, scale=1000)
    assert list(registry.monitor()) == [
        *(("avg_readlatency", 0.0), ("min_readlatency", 0), ("max_readlatency", 0), ("cnt_readlatency", 0)),
        *(("sum_readlatency", 0), ("p50_readlatency", 0), ("p95_readlatency", 0), ("p99_readlatency", 0)),
        ("p999_readlatency", 0),
    ]
    latency.observe_n(1500, 99)
    latency.observe(2_000_000)
    assert list(registry.monitor()) == [
        *(("avg_readlatency", 21.485), ("min_readlatency", 1), ("max_readlatency", 2000), ("cnt_readlatency", 100)),
        *(("sum_readlatency", 2148), ("p50_readlatency", 2), ("p95_readlatency", 2), ("p99_readlatency", 2)),
        ("p999_readlatency", 1999),
    ]


def test_reset_starts_the_lines_anew_but_not_prometheus() -> None:
    registry = Registry()
    counter = registry.counter("proposal_count")
    summary = registry.summary("fsynctime", advanced=True)
    registry.gauge("znode_count", lambda: 5)
    for _ in range(3):
        counter.add()
        summary.observe(40)
    registry.reset()
    lines = dict(registry.monitor())
    assert lines["znode_count"] == 5
    assert lines["proposal_count"] == lines["cnt_fsynctime"] == lines["max_fsynctime"] == lines["p50_fsynctime"] == 0
    counter.add(2)
    summary.observe(7)
    lines = dict(registry.monitor())
    assert (lines["proposal_count"], lines["cnt_fsynctime"], lines["sum_fsynctime"]) == (2, 1, 7)
    assert (lines["min_fsynctime"], lines["max_fsynctime"], lines["p999_fsynctime"]) == (7, 7, 7)
    samples = scrape(registry)
    assert samples["proposal_count_total"] == samples["proposal_count"] == 5
    assert samples["fsynctime_count"] == 4
    assert samples["fsynctime_sum"] == 127


def scrape(registry: Registry) -> dict[str, float]:
    text = exposition(registry).decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in found, f"{name} twice"
            found[name] = sample.value
    return found


def test_prometheus_text() -> None:
    registry = Registry()
    registry.gauge("num_alive_connections", lambda: 3)
    registry.gauge("pending_syncs", lambda: None)
    registry.gauge_set("quota_count_limit_per_namespace", lambda: {"app": 10, 'odd"\\\n': 2})
    registry.counter("op_count_total").add(4)
    registry.counter("snap_count")
    registry.counter_set("quota_exceeded_error_per_namespace").get("app").add(2)
    registry.summary("election_time")
    updates = registry.summary("updatelatency", advanced=True, scale=1000)
    updates.observe_n(1500, 4)
    registry.summary_set("write_per_namespace").get("app").observe(20)
    assert scrape(registry) == {
        "num_alive_connections": 3,
        "quota_count_limit_per_namespace{key=app}": 10,
        'quota_count_limit_per_namespace{key=odd"\\\n}': 2,
        "op_count_total": 4,
        "snap_count": 0,
        "snap_count_total": 0,
        "quota_exceeded_error_per_namespace{key=app}": 2,
        "quota_exceeded_error_per_namespace_total{key=app}": 2,
        "election_time_count": 0,
        "election_time_sum": 0,
        "updatelatency_count": 4,
        "updatelatency_sum": 6,
        **{f"updatelatency{{quantile={q}}}": 1.504 for q in (0.5, 0.9, 0.95, 0.99, 0.999)},
        "write_per_namespace_count{key=app}": 1,
        "write_per_namespace_sum{key=app}": 20,
        **{f"write_per_namespace{{key=app,quantile={q}}}": 20 for q in (0.5, 0.9, 0.95, 0.99, 0.999)},
    }
    assert b"# TYPE updatelatency summary\n" in exposition(registry)


def test_sets_in_lines_have_the_key_before_the_name() -> None:
    registry = Registry()
    registry.gauge_set("quota_bytes_limit_per_namespace", lambda: {"app": 10})
    registry.counter_set("quota_exceeded_error_per_namespace").get("app").add(2)
    registry.summary_set("read_per_namespace").get("app").observe(20)
    lines = dict(registry.monitor())
    assert lines["app_quota_bytes_limit_per_namespace"] == 10
    assert lines["app_quota_exceeded_error_per_namespace"] == 2
    assert lines["max_app_read_per_namespace"] == 20


def test_a_set_has_a_bound() -> None:
    keys = Registry().counter_set("write_per_namespace")
    for number in range(METRIC_KEYS_MAX + 50):
        keys.get(f"k{number}").add()
    assert len(keys.members) == METRIC_KEYS_MAX + 1
    assert keys.get(OTHER_KEY).value == 50
    assert keys.get("k0").value == 1


def test_prometheus_quantiles_forget_what_is_two_rotations_old() -> None:
    summary = Summary("x")
    summary.observe_n(10, 1000)
    summary.rotate()
    summary.observe(20)
    assert summary.recent()[0.5] == 10
    summary.rotate()
    assert set(summary.recent().values()) == {20.0}
    summary.rotate()
    assert summary.recent() == {}
    assert summary.count == 1001


def test_instruments_of_others() -> None:
    registry = Registry()
    counter, summary = Counter("stale_sessions_expired"), Summary("fsynctime", scale=1000)
    registry.add(counter, summary)
    rejected = 3
    registry.sampled_counter("connection_rejected", lambda: rejected)
    counter.add(2)
    summary.observe(5000)
    lines = dict(registry.monitor())
    assert (lines["stale_sessions_expired"], lines["connection_rejected"], lines["sum_fsynctime"]) == (2, 3, 5)
    registry.reset()
    rejected = 4
    assert dict(registry.monitor())["connection_rejected"] == 1
    assert scrape(registry)["connection_rejected_total"] == 4
    with pytest.raises(ValueError, match="fsynctime"):
        registry.add(Summary("fsynctime"))


def test_a_name_is_given_once() -> None:
    registry = Registry()
    registry.counter("snap_count")
    with pytest.raises(ValueError, match="snap_count"):
        registry.summary("snap_count")


def test_recording_a_batch_is_cheap() -> None:
    """0.1 us a request in batches of ten is 1 us a batch; ten times that here, because machines differ."""
    summary = Summary("x", advanced=True)
    best = min(timeit.repeat(lambda: summary.observe_n(1234, 10), number=10_000, repeat=5)) / 10_000
    assert best < 10e-6
