"""`python -m corekit_storage_rocks check|salvage DATA_DIR`: for the operator of a damaged data directory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from corekit.errors import EXIT_DAMAGED, EXIT_OK, UserError
from corekit_storage_rocks.tools import Report, check, salvage


def main(arguments: list[str]) -> int:
    """Run a command; the exit code is 0 for a sound directory, 21 for a damaged one."""
    parser = argparse.ArgumentParser(prog="python -m corekit_storage_rocks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_text in (("check", "read and verify everything"), ("salvage", "keep the part that is sound")):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("data_dir", type=Path)
        command.add_argument("--log-dir", type=Path, help="dataLogDir, if the log is there")
        if name == "salvage":
            command.add_argument(
                "--at-least",
                type=lambda text: int(text, 0),
                default=0,
                metavar="ZXID",
                help="highest zxid that `check` shows on any member of the ensemble",
            )
            command.add_argument("--accept-loss", action="store_true", help="even if acknowledged entries are missing")
    options = parser.parse_args(arguments)
    try:
        if options.command == "check":
            report = check(options.data_dir, options.log_dir)
        else:
            report, aside = salvage(
                options.data_dir, options.log_dir, at_least=options.at_least, accept_loss=options.accept_loss
            )
            sys.stdout.write(f"the original is now {aside}\n")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    sys.stdout.write(_text(report))
    return EXIT_OK if report.problem is None else EXIT_DAMAGED


def _text(report: Report) -> str:
    span = f", {report.first_zxid:#x} to {report.last_zxid:#x}" if report.entries else ""
    lines = (
        f"log:     {report.entries} entries{span}",
        f"state:   {report.pairs} pairs as of {report.state_zxid:#x}",
        f"epochs:  accepted {report.accepted}, current {report.current}",
        f"durable: {'unknown' if report.floor is None else f'up to {report.floor.zxid:#x}'}",
        f"problem: {report.problem or 'none'}",
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
