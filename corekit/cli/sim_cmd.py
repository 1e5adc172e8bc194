"""`corekit sim`: whole ensembles under faults, each run decided by one seed.

Exit codes: 0 nothing was violated; 1 something was; 2 wrong use. What is simulated and checked: docs/testing.md.
"""

from __future__ import annotations

import random
import shlex
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corekit.cli.options import JsonOption
from corekit.cli.output import print_json
from corekit.errors import EXIT_OK, EXIT_UNEXPECTED, UserError

if TYPE_CHECKING:
    from corekit.testing.sim.campaign import Result
    from corekit.testing.sim.many import Campaign, Totals

SHOWN_MAX = 3  # violations shown with their events; the others are named
EVENTS_SHOWN = 60
FRESH_BELOW = 1_000_000_000


def sim(
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            "-s",
            min=0,
            help="The first seed; the next runs take the numbers behind it. Without it, fresh ones.",
            show_default=False,
        ),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", "-n", min=1, help="How many seeds.")] = 20,
    servers: Annotated[
        int | None,
        typer.Option(
            "--servers",
            "-k",
            min=1,
            max=9,
            help="Servers that vote. Without it, each seed chooses 3 or 5.",
            show_default=False,
        ),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(
            "--hours",
            "-H",
            min=0.001,
            help="Simulated time of all runs together, in equal parts; 0.1 a run if it is not given.",
            show_default=False,
        ),
    ] = None,
    trace_hash: Annotated[
        bool,
        typer.Option("--trace-hash", help="Print what stands for all events of each run: the same seed, the same."),
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option("--processes", min=1, help="Runs at a time; as many as there are cores.", show_default=False),
    ] = None,
    consensus: Annotated[str, typer.Option("--consensus", help="The plugin under test.")] = "zab",
    without: Annotated[
        list[str] | None,
        typer.Option("--without", help="A kind of fault that shall not happen. May be repeated.", show_default=False),
    ] = None,
    shrink: Annotated[
        bool, typer.Option("--shrink/--no-shrink", help="Look for less that violates the same, and show that.")
    ] = True,
    json: JsonOption = False,
) -> None:
    """Simulate whole ensembles under faults, and check that nothing is violated that ZooKeeper promises.

    Servers, network, disks, clocks and clients run in one process and in simulated time. One seed decides everything:
    delays, crashes at any step of a write, lost power, partitions, pauses, torn and full disks. The same seed is the
    same run, so a violation can be looked at again and again (docs/testing.md).

    [bold]Examples[/bold]

      corekit sim

      corekit sim --runs 1000 --hours 100

      corekit sim --seed 7 --runs 1 --servers 5 --trace-hash
    """  # fmt: skip
    from corekit.testing.sim import many
    from corekit.testing.sim.nemesis import ALL_KINDS

    for kind in without or ():
        if kind not in ALL_KINDS:
            raise UserError(f"--without {kind}: no such kind of fault; there are: {', '.join(ALL_KINDS)}")
    first = random.SystemRandom().randrange(FRESH_BELOW) if seed is None else seed
    seconds = 360 if hours is None else round(hours * 3600 / runs)
    if seconds < many.SECONDS_MIN:
        raise UserError(f"--hours {hours:g} is less than {many.SECONDS_MIN} seconds for each of {runs:,} runs")
    campaign = many.Campaign(first, runs, seconds, servers, consensus, tuple(without or ()))
    totals = _carry_out(campaign, processes, shrink=shrink, trace_hash=trace_hash, json=json)
    raise typer.Exit(EXIT_UNEXPECTED if totals.failed else EXIT_OK)


def _carry_out(campaign: Campaign, processes: int | None, *, shrink: bool, trace_hash: bool, json: bool) -> Totals:
    """Run the seeds and tell what became of them."""
    from corekit.cli.progress import Progress
    from corekit.testing.sim import many

    totals = many.Totals()
    began = time.monotonic()
    last = campaign.first + campaign.runs - 1
    if not json:
        print(f"seeds {campaign.first} to {last}, {campaign.seconds} simulated seconds each", flush=True)
    hashes: dict[int, str] = {}
    with Progress("simulating", campaign.runs, quiet=json, shown_from=2) as progress:
        for result in many.run(campaign, processes):
            totals.add(result)
            progress.advance()
            hashes[result.seed] = result.trace_hash
            if not json and not result.ok and len(totals.failed) <= SHOWN_MAX:
                print(_failure(campaign, result), flush=True)
                if shrink:
                    print(_smaller(campaign, *many.shrink(campaign, result)), flush=True)
    if json:
        shown = {str(seed): hashes[seed] for seed in sorted(hashes)} if trace_hash else None
        print_json(_as_json(campaign, totals, shown))
    else:
        if trace_hash:
            print("\n".join(f"{seed} {hashes[seed]}" for seed in sorted(hashes)))
        for result in totals.failed[SHOWN_MAX:]:
            print(f"seed {result.seed}: violation of {result.rule}; {replay(campaign, result.seed)}")
        print(_summary(campaign, totals, time.monotonic() - began))
    return totals


def replay(campaign: Campaign, seed: int) -> str:
    """The command that runs one seed of a campaign again."""
    words = [f"corekit sim --seed {seed} --runs 1 --hours {campaign.seconds / 3600!r}"]
    if campaign.servers is not None:
        words.append(f"--servers {campaign.servers}")
    if campaign.consensus != "zab":
        words.append(f"--consensus {campaign.consensus}")
    words += [f"--without {shlex.quote(kind)}" for kind in campaign.without]
    return " ".join(words)


def _failure(campaign: Campaign, result: Result) -> str:
    return f"\n{result.report(EVENTS_SHOWN)}\n\nThe same again: {replay(campaign, result.seed)}\n"


def _smaller(campaign: Campaign, smaller: Campaign, result: Result) -> str:
    if smaller == replace(campaign, first=result.seed, runs=1):
        return "Nothing smaller was found that violates the same rule.\n"
    events = result.report(EVENTS_SHOWN)
    return f"Smaller, with the same rule violated:\n\n{events}\n\nSmaller: {replay(smaller, result.seed)}\n"


def _summary(campaign: Campaign, totals: Totals, took: float) -> str:
    counters = totals.counters
    return (
        f"{totals.runs:,} seeds from {campaign.first}, {totals.seconds / 3600:,.1f} simulated hours in {took:,.0f} s, "
        f"{counters.get('faults', 0):,} faults, {counters.get('operations', 0):,} operations checked, "
        f"{len(totals.failed):,} violations"
    )


def _as_json(campaign: Campaign, totals: Totals, hashes: dict[str, str] | None) -> dict[str, Any]:
    report: dict[str, Any] = {
        "first_seed": campaign.first,
        "runs": totals.runs,
        "servers": campaign.servers,
        "consensus": campaign.consensus,
        "simulated_hours": round(totals.seconds / 3600, 3),
        "faults": totals.counters.get("faults", 0),
        "operations": totals.counters.get("operations", 0),
        "counters": dict(sorted(totals.counters.items())),
        "violations": [
            {"seed": result.seed, "servers": result.servers, "rule": result.rule, "text": result.text,
             "events": result.trace[-EVENTS_SHOWN:], "replay": replay(campaign, result.seed)}
            for result in totals.failed
        ],
    }  # fmt: skip
    if hashes is not None:
        report["trace_hashes"] = hashes
    return report
