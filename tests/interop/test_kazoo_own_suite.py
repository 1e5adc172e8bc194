"""The tests that kazoo ships, as they are, against one server (or several: `COREKIT_INTEROP_SERVERS=3`)."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVERS = int(os.environ.get("COREKIT_INTEROP_SERVERS", "1"))
MODULES = (
    "barrier",
    "cache",
    "client",
    "connection",
    "counter",
    "election",
    "interrupt",
    "lease",
    "lock",
    "partitioner",
    "party",
    "queue",
    "watchers",
)
# What cannot pass against one server without TLS; Apache ZooKeeper alone fails the same ones.
LEFT_OUT = {
    "TestSSLClient": "needs a TLS port with kazoo's certificates",
    "TestReconfig": "needs an ensemble that allows changes of its membership",
    "TestReadOnlyMode": "needs an ensemble with the read-only mode",
    **({"test_update_host_list": "needs an ensemble"} if SERVERS == 1 else {}),
}


# Apache ZooKeeper 3.8 may accept a connection while it starts and never answer on it.
ONLY_ON_JAVA = ("test_request_queuing_session",)


@pytest.mark.slow
def test_kazoos_own_tests_pass(tmp_path: Path, kind: str) -> None:
    report = tmp_path / "report.xml"
    modules = [f"kazoo.tests.test_{name}" for name in MODULES]
    chosen = " and ".join(f"not {name}" for name in (*LEFT_OUT, *(ONLY_ON_JAVA if kind == "java" else ())))
    options = ["-p", "tests.interop.kazoo_cluster", "-p", "no:cacheprovider", "-p", "no:trio", "-W", "ignore"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", *options, "-o", "addopts=", "-q"),
            *("-k", chosen, f"--junitxml={report}", "--pyargs", *modules),
        ],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))},
    )
    assert report.exists(), done.stdout + done.stderr
    cases = list(xml.parse(report).getroot().iter("testcase"))
    failed = [case.get("name") for case in cases if case.find("failure") is not None or case.find("error") is not None]
    passed = [case for case in cases if len(case) == 0 or case.find("skipped") is None]
    assert failed == [], done.stdout[-8000:]
    assert len(passed) > 150
