"""Kill -9: a child process works on a storage and says what it does, its parent kills it and looks at what is left.

Before each operation the child writes a line about it to a pipe, and a line `sync` after each sync. After the kill, the
storage must hold the outcome of all operations up to the last finished sync, and of some number of those that were
begun after it: a prefix, each as a whole.

    python -m corekit.testing.storage_crash MODULE:CALLABLE PATH SEED USED

The callable takes a `pathlib.Path` and returns a storage that is not open. USED is the highest zxid that was ever
used there, also by entries that were truncated. The child also tells (`failed`, exit code
20) when the storage raises `StorageError`, after checking that every later call raises it too.
"""

from __future__ import annotations

import importlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

from corekit.api import Storage
from corekit.errors import EXIT_DISK, StorageError
from corekit.testing.storage_model import Model, Op, perform, random_op, read_all

READY = "ready"
FAILED = "failed"
_START_SECONDS = 60.0


class CrashTest:
    """Rounds of start, work, kill and look, on one path. `model` is what the storage holds between rounds."""

    def __init__(self, factory: str, path: Path) -> None:
        self.factory = factory
        self.path = path
        self.model = Model()
        self.operations = 0
        self.lost = 0  # operations begun and not there afterwards; never synced ones
        self.output = ""

    def start(self, seed: int, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """A child that has opened the storage. Raises AssertionError with its complaint if it cannot."""
        command = [sys.executable, "-m", __name__, self.factory, str(self.path), str(seed), str(self.model.used)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        self.output = ""
        deadline = time.monotonic() + _START_SECONDS
        while READY not in self.output:
            if not self._receive(child, deadline - time.monotonic()):
                child.kill()
                self.finish(child)
                raise AssertionError(f"the child did not start: {self.output}")
        return child

    def _receive(self, child: subprocess.Popen[bytes], seconds: float) -> bool:
        """Take what the child has said; False at the end or when it is silent for so long."""
        assert child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, seconds)):
                return False
        data = os.read(child.stdout.fileno(), 1 << 16)
        self.output += data.decode("ascii")
        return bool(data)

    def listen(self, child: subprocess.Popen[bytes], seconds: float) -> None:
        """Take what the child says for a while, or until it ends."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and self._receive(child, left):
            pass

    def kill(self, child: subprocess.Popen[bytes]) -> None:
        """SIGKILL, and all that it had said before."""
        child.send_signal(signal.SIGKILL)
        self.finish(child)

    def finish(self, child: subprocess.Popen[bytes]) -> int:
        """Wait for the child; its exit status."""
        while self._receive(child, _START_SECONDS):
            pass
        assert child.stdout is not None
        child.stdout.close()
        return child.wait(_START_SECONDS)

    def look(self, path: Path | None = None) -> None:
        """Open the storage (or the copy of it in `path`), and compare it with what the child had said.

        Raises AssertionError if what it holds is not the outcome of a prefix that includes all that was synced.
        """
        lines = [line.split() for line in self.output.split("\n")[:-1]]  # a last line that is cut off was not begun
        ops: list[Op] = [(words[0], int(words[1]), int(words[2])) for words in lines if len(words) == 3]
        synced = max((index + 1 for index, op in enumerate(ops) if op[0] == "sync"), default=0)
        self.operations += len(ops)
        candidates = [self.model.copy()]
        for index, op in enumerate(ops):
            if index >= synced:
                candidates.append(candidates[-1].copy())
            perform(op, candidates[-1])
        storage = load_factory(self.factory)(path or self.path)
        recovery = storage.open()
        try:
            differences = [model.difference(storage, recovery) for model in candidates]
        finally:
            storage.close()
        fitting = [index for index, difference in enumerate(differences) if difference is None]
        assert fitting, f"no prefix of {len(candidates)} fits; synced: {differences[0]}; all: {differences[-1]}"
        self.lost += len(candidates) - 1 - fitting[-1]
        self.model = candidates[fitting[-1]]
        self.model.sync()


def load_factory(spec: str) -> Callable[[Path], Storage]:
    """`module:name`, imported."""
    module, name = spec.split(":")
    factory: Callable[[Path], Storage] = getattr(importlib.import_module(module), name)
    return factory


def _work(factory: str, path: Path, seed: int, used: int) -> int:
    """The child: operations without end."""
    rng = Random(seed)
    storage = load_factory(factory)(path)
    recovery = storage.open()
    model = Model(
        accepted=recovery.accepted_epoch,
        current=recovery.current_epoch,
        log=dict(read_all(storage, storage.first_zxid() - 1)) if storage.first_zxid() else {},
        start=recovery.last_zxid,
        state=dict(storage.read_state()),
        state_zxid=recovery.state_zxid,
        durable_state=recovery.state_zxid,
        used=max(used, recovery.last_zxid),
    )
    _say(READY)
    try:
        while True:
            op = random_op(model, rng)
            if op[0] != "sync":
                _say(*op)
            perform(op, storage)
            perform(op, model)
            if op[0] == "sync":
                _say(*op)
    except StorageError as error:
        _check_failed_for_good(storage, model)
        _say(FAILED)
        print(error, file=sys.stderr)
        return EXIT_DISK


def _say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode("ascii"))


def _check_failed_for_good(storage: Storage, model: Model) -> None:
    zxid = model.used + (1 << 32)
    later: tuple[Callable[[], object], ...] = (
        lambda: storage.append(zxid, [b"x"], zxid),
        lambda: storage.save_epochs(9, 9),
        lambda: storage.write_state(model.state_zxid, [], []),
        storage.sync,
    )
    for call in later:
        try:
            call()
        except StorageError:
            continue
        raise AssertionError("a call after a failure was accepted")


if __name__ == "__main__":
    sys.exit(_work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
