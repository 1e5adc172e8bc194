"""The command `corekit`, and `python -m corekit`. Nothing is imported here before Ctrl-C is taken care of."""

import os
import signal
import sys


def _fill_standard_streams() -> None:
    """A stream that was closed (`2>&-`) goes nowhere, so that no file of data gets its number and is written to."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115 - it stays open
            setattr(sys, name, stream)


def run() -> None:
    """Run the command line and exit the process.

    Until the command itself begins, Ctrl-C ends the process at once: there is nothing to clean up, and an interrupted
    import would print a traceback.
    """
    _fill_standard_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from corekit.cli.main import run

    run()


if __name__ == "__main__":
    run()
