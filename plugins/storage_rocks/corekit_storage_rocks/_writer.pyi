class Writer:
    """A thread that writes one frame at a time, durably, without the interpreter lock. At most one is under way."""

    def __new__(cls) -> Writer: ...
    def begin(self, fd: int, frame: bytes, at: int, wake: int) -> None:
        """Write and sync a frame at an offset; when that is done, add 1 to the eventfd `wake` (-1: none)."""

    def result(self) -> float | None:
        """Seconds that it took, once; None if it is not done. Raises OSError: it failed."""

    def wait(self) -> None:
        """Block until no write is under way."""

    def close(self) -> None:
        """End the thread, after a write that is under way."""
