"""Counters and summaries: plain integers, cheap enough to be added to once a batch on the way of a request.

Rules
- Values only grow; `reset` (`srst`) moves the zero that `monitor` counts from, so Prometheus never sees a step back.
- Times are observed in microseconds, because ours are short, and shown in ZooKeeper's unit through `scale`.
- A histogram has a fixed number of buckets.

Pure: no clock. Not here: names of a whole server's metrics and the outputs (`server/metrics.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

Value = int | float | str

# Log-linear histogram: values below 32 have a bucket each, above that every power of two has 16.
_LINEAR: Final = 32
_MOST: Final = (1 << 40) - 1  # in us: 12 days
_BUCKETS: Final = 36 * 16 + 16
_PERCENTILES: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999))
_QUANTILES: Final = (0.5, 0.9, 0.95, 0.99, 0.999)


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

    @property
    def since_reset(self) -> tuple[int, int]:
        """Count and sum since the last `reset`, not scaled."""
        return self.count - self._count_zero, self.sum - self._sum_zero

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
        count, total = self.since_reset
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
