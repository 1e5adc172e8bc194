"""Builds and runs the foreign programs of `java/`, `c/` and `node/`, and reads the checks that they print.

A program prints one line per check, `ok NAME` or `FAILED NAME: reason`, and everything else is for people. A check that
a program does not print counts as failed: the tests name the checks that they expect.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.servers import MissingSoftware, find_program, java_class_path, package_file

HERE = Path(__file__).parent
RUN_SECONDS = 120.0
BUILD_SECONDS = 120.0
# Clients live for seconds, too.
JVM_OPTIONS = (
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
)


def build(command: Sequence[str]) -> None:
    """Run a compiler; fail the test with its output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode != 0:
        pytest.fail(f"{command[0]} failed:\n{done.stdout}{done.stderr}", pytrace=False)


def build_java(source: str, folder: Path, class_path: str) -> list[str]:
    """Compile `java/SOURCE.java` and return the command that runs it."""
    javac = find_program("javac", "default-jdk-headless")
    build([javac, "-nowarn", "-d", str(folder), "-cp", class_path, str(HERE / "java" / f"{source}.java")])
    return [
        find_program("java", "default-jre-headless"),
        *JVM_OPTIONS,
        "-cp",
        f"{folder}{os.pathsep}{class_path}",
        source,
    ]


def java_client_class_path() -> str:
    return java_class_path()


def curator_class_path() -> str:
    """Curator's jars; their manifests name guava, jackson and ZooKeeper."""
    return java_class_path(
        package_file("libcurator-recipes-java", "/curator-recipes.jar"),
        package_file("libcurator-framework-java", "/curator-framework.jar"),
        package_file("libcurator-client-java", "/curator-client.jar"),
    )


def build_c(source: str, folder: Path) -> list[str]:
    """Compile `c/SOURCE.c` with Debian's libzookeeper_mt and return the command that runs it."""
    compiler = find_program("cc", "gcc")
    package_file("libzookeeper-mt-dev", "/zookeeper.h")
    program = folder / source
    flags = ["-O1", "-Wall", "-Werror", "-DTHREADED", "-pthread"]
    build([compiler, *flags, "-o", str(program), str(HERE / "c" / f"{source}.c"), "-lzookeeper_mt"])
    return [str(program)]


def install_node_client(folder: Path) -> dict[str, str]:
    """Install the locked npm packages of `node/` into `folder`; return the environment that finds them.

    `NODE_ZOOKEEPER_MODULES` names a folder that has them already.
    """
    find_program("node", "nodejs")
    given = os.environ.get("NODE_ZOOKEEPER_MODULES")
    if given:
        return {"NODE_PATH": given}
    npm = find_program("npm", "npm")
    for name in ("package.json", "package-lock.json"):
        (folder / name).write_bytes((HERE / "node" / name).read_bytes())
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False)
    if done.returncode != 0:
        raise MissingSoftware("npm", f"node-zookeeper-client (npm ci said: {done.stderr.strip()[-500:]})")
    return {"NODE_PATH": str(folder / "node_modules")}


def checks_of(output: str) -> dict[str, str]:
    """Name of each printed check and what went wrong (`` for `ok`)."""
    found: dict[str, str] = {}
    for line in output.splitlines():
        if line.startswith("ok "):
            found[line[3:].strip()] = ""
        elif line.startswith("FAILED "):
            name, _, reason = line[7:].partition(":")
            found[name.strip()] = reason.strip() or "no reason given"
    return found


def run_checks(
    command: Sequence[str], env: Mapping[str, str] | None = None, timeout: float = RUN_SECONDS
) -> dict[str, str]:
    """Run a program to its end; return its checks and, under ``, its whole output."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, env={**os.environ, **(env or {})}
        )
        output = f"{done.stdout}\n{done.stderr}\nexit code {done.returncode}"
    except subprocess.TimeoutExpired as late:
        parts = [part.decode("utf-8", "replace") if part else "" for part in (late.stdout, late.stderr)]
        output = f"{parts[0]}\n{parts[1]}\nkilled after {timeout:g} s"
    return {**checks_of(output), "": output}


def assert_check(results: Mapping[str, str], name: str) -> None:
    """Fail unless the program printed `ok NAME`."""
    if name not in results:
        pytest.fail(f"the program did not print check {name!r}; its output:\n{results[''][-6000:]}", pytrace=False)
    if results[name]:
        pytest.fail(f"{name}: {results[name]}\n{results[''][-6000:]}", pytrace=False)
