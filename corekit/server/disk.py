"""The disk worker: one thread that runs storage's blocking calls, so that no fsync ever stops the event loop.

Group commit: while one `sync` runs, the event loop stages further batches; the next `sync` makes all of them durable.
The hand-over is one queue put and one eventfd write, about a third of what `trio.to_thread` costs. A storage with
`BackgroundSync` does without the thread most of the time, because that waits for the interpreter lock longer than for
the disk.

A failure of storage is reported once and for all: nothing after it may be acknowledged, the process stops.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from corekit.api import BackgroundSync, Storage
from corekit.errors import StorageError
from corekit.replica.instruments import Summary

log = logging.getLogger("corekit.disk")

_Job = tuple[Callable[[], Any], Callable[[Any], None]]


class DiskWorker:
    """Runs blocking calls in order, and groups syncs.

    Args:
        storage: what is synced.
        wake: an eventfd that gets 1 added when there is something to hand out; None: nothing waits for that.
        failed: called on the event loop with the error of a job that raised.
        slow_seconds: a sync that takes longer is warned of (fsync.warningthresholdms).

    Attributes:
        sync_time: of syncs, in us; written by the thread.
        slow_syncs: how many of them were warned of.
    """

    def __init__(
        self,
        storage: Storage,
        wake: int | None,
        failed: Callable[[BaseException], None],
        clock: Callable[[], float],
        slow_seconds: float,
    ) -> None:
        self._storage = storage
        self._background = storage if isinstance(storage, BackgroundSync) else None
        self._wake = wake
        self._failed = failed
        self._clock = clock
        self._slow_seconds = slow_seconds
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._done: deque[tuple[Callable[[Any], None], Any, BaseException | None]] = deque()
        self._marks: deque[Callable[[], None]] = deque()
        self._syncing = 0
        self._held = False
        self._started = False  # a sync in the background
        self.sync_time = Summary("fsynctime", scale=1000)
        self.slow_syncs = 0
        self._thread = threading.Thread(target=self._run, name="corekit-disk", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the jobs that are queued, then end the thread. Blocks."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, job: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run `job` in the thread, then `done` with its result on the event loop."""
        self._jobs.put((job, done))

    def sync(self, durable: Callable[[], None]) -> None:
        """Call `durable` once everything staged so far is on disk; calls come in the order of this one."""
        self._marks.append(durable)
        if not self._syncing and not self._held:
            self._kick()

    def hold(self) -> None:
        """Start no sync before `release`, unless another one ends."""
        self._held = True

    def release(self) -> None:
        """Start what was held."""
        self._held = False
        if self._marks and not self._syncing:
            self._kick()

    def _kick(self) -> None:
        self._syncing = len(self._marks)
        if self._background is not None and self._wake is not None and self._background.start_sync(self._wake):
            self._started = True
        else:
            self.submit(self._timed_sync, self._synced)

    def _timed_sync(self) -> None:
        began = self._clock()
        self._storage.sync()
        self._count(self._clock() - began)

    def _count(self, took: float) -> None:
        self.sync_time.observe(int(took * 1e6))
        if took > self._slow_seconds:
            self.slow_syncs += 1
            log.warning("slow disk: a sync took long, writes wait for it", extra={"seconds": round(took, 3)})

    def _synced(self, _: None) -> None:
        covered, self._syncing = self._syncing, 0
        if len(self._marks) > covered:
            due = [self._marks.popleft() for _ in range(covered)]
            self._kick()
        else:
            due = list(self._marks)
            self._marks.clear()
        for durable in due:
            durable()

    def completed(self) -> None:
        """Event loop: hand out what has been finished."""
        if self._started:
            self._look_at_started()
        while self._done:
            done, result, error = self._done.popleft()
            if error is not None:
                self._failed(error)
                return
            done(result)

    def _look_at_started(self) -> None:
        assert self._background is not None
        try:
            took = self._background.finish_sync()
        except StorageError as error:
            self._failed(error)
            return
        if took is not None:
            self._started = False
            self._count(took)
            self._synced(None)

    def _notify(self) -> None:
        if self._wake is not None:
            os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, done = job
            try:
                self._done.append((done, work(), None))
            except StorageError as error:
                self._done.append((done, None, error))
                self._notify()
                return  # nothing is ever retried after a failed write or sync
            except BaseException as error:
                self._done.append((done, None, error))
            self._notify()
