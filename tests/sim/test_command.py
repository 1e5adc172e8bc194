"""`corekit sim`: exit codes, summary, report of a violation, and that the command it prints shows the same again."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from corekit.cli.main import run
from tests.sim.mutants import planted


def corekit(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        run(words)
    return int(ended.value.code or 0)


def test_a_summary_is_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert corekit("sim", "--seed", "41", "--runs", "3", "--hours", "0.01") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"3 seeds from 41, 0\.\d simulated hours in \d+ s, [\d,]+ faults, [\d,]+ operations checked, 0 violations", last
    )


def test_the_number_of_processes_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    hashes = []
    for processes in ("1", "2"):
        words = ("--seed", "5", "--runs", "2", "--hours", "0.002", "--trace-hash", "--processes", processes)
        assert corekit("sim", *words) == 0
        hashes.append(capsys.readouterr().out.splitlines()[1:3])
    assert hashes[0] == hashes[1]


def test_fresh_seeds_are_others_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    first = []
    for _ in range(2):
        assert corekit("sim", "--runs", "1", "--hours", "0.001", "--json") == 0
        first.append(json.loads(capsys.readouterr().out)["first_seed"])
    assert first[0] != first[1]


def test_a_violation_is_exit_code_1_and_can_be_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    with planted("commit_without_quorum"):
        assert (
            corekit("sim", "--seed", "1", "--runs", "8", "--hours", "0.03", "--servers", "3", "--processes", "1") == 1
        )
        lines = capsys.readouterr().out.splitlines()
        assert not lines[-1].endswith(" 0 violations")
        violated = next(line for line in lines if "violation of" in line)
        command = next(line.removeprefix("The same again: ") for line in lines if line.startswith("The same again: "))
        assert corekit(*shlex.split(command)[1:], "--processes", "1", "--no-shrink") == 1
        assert violated in capsys.readouterr().out
    assert corekit(*shlex.split(command)[1:]) == 0


def test_a_violation_is_shown_with_less_around_it(capsys: pytest.CaptureFixture[str]) -> None:
    with planted("commit_without_quorum"):
        words = ("--seed", "1", "--runs", "4", "--hours", "0.04", "--servers", "3", "--processes", "1")
        assert corekit("sim", *words) == 1
        lines = capsys.readouterr().out.splitlines()
        whole = next(line for line in lines if line.startswith("The same again: ")).split()
        smaller = next(line for line in lines if line.startswith("Smaller: ")).removeprefix("Smaller: ")
        rule = next(line for line in lines if "violation of" in line).rpartition(" ")[2]
        assert smaller.count("--without") >= 1 or float(smaller.split()[7]) < float(whole[10])
        assert corekit(*shlex.split(smaller)[1:], "--processes", "1", "--no-shrink", "--json") == 1
        (violation,) = json.loads(capsys.readouterr().out)["violations"]
        assert violation["rule"] == rule


def test_an_unknown_kind_of_fault_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert corekit("sim", "--without", "thunder") == 2
    assert "there are: kill, kill leader" in capsys.readouterr().err


def test_a_plugin_that_cannot_be_simulated_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert corekit("sim", "--consensus", "solo") == 2
    assert "plugin solo" in capsys.readouterr().err


def test_too_little_time_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert corekit("sim", "--hours", "0.001", "--runs", "1000") == 2
    assert "--hours 0.001 is less than 4 seconds" in capsys.readouterr().err
