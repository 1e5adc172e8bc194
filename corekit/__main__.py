"""`python -m corekit` is the command `corekit`."""

from corekit.cli.main import run

if __name__ == "__main__":
    run()
