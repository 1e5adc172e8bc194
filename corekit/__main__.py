"""The command `corekit`, and `python -m corekit`. Nothing is imported here before Ctrl-C is taken care of."""

import signal


def run() -> None:
    """Run the command line and exit the process.

    Until the command itself begins, Ctrl-C ends the process at once: there is nothing to clean up, and an interrupted
    import would print a traceback.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from corekit.cli.main import run

    run()


if __name__ == "__main__":
    run()
