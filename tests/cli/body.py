"""What runs under a lock in tests: says that it lives, that it is alone, and which signals it gets.

    python body.py FILE [SECONDS] [deaf] [child]

It ends after SECONDS (never if not given), or when FILE.stop exists.

FILE.alive  one line `begin|alive|end TIME TOKEN PID` every 20 ms; TIME of time.monotonic
FILE.alone  locked while it lives; FILE.overlaps gets a line if somebody else had it
FILE.signals  a line for each signal received (which ends it, unless `deaf`)
`child` starts the same again as a child in the same process group (files FILE-child.*).
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time


def main() -> None:
    """See the module."""
    base = sys.argv[1]
    seconds = next((float(word) for word in sys.argv[2:] if word[0].isdigit()), 3600.0)
    deaf = "deaf" in sys.argv
    token = os.environ.get("COREKIT_LOCK_TOKEN", "-")

    def note(file: str, text: str) -> None:
        with open(f"{base}.{file}", "a", encoding="ascii") as target:
            target.write(text + "\n")

    def alive(what: str) -> None:
        note("alive", f"{what} {time.monotonic():.6f} {token} {os.getpid()}")

    def received(number: int, frame: object) -> None:
        note("signals", signal.Signals(number).name)
        if not deaf:
            alive("end")
            os._exit(128 + number)

    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        signal.signal(getattr(signal, name), received)
    with open(f"{base}.alone", "w", encoding="ascii") as alone:
        try:
            fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("overlaps", f"{time.monotonic():.6f} {token}")
        if "child" in sys.argv:
            own = [word for word in sys.argv[2:] if word != "child"]
            subprocess.Popen([sys.executable, __file__, f"{base}-child", *own], close_fds=True)
        alive("begin")
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and not os.path.exists(f"{base}.stop"):
            time.sleep(0.02)
            alive("alive")
    alive("end")


if __name__ == "__main__":
    main()
