"""`corekit plugin new` and `corekit plugin test`: what they write works, and what they say is right."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import get_args

import pytest

from corekit.cli.plugin_cmd import Kind, write
from corekit.errors import DamagedError, UserError
from corekit.hooks import KINDS
from corekit.testing.process import ServerProcess
from tests.support.rawzk import RawClient
from tests.support.strangers import install

ROOT = Path(__file__).parents[2]
ALL = get_args(Kind)


def distribution(site: Path, name: str, kind: str) -> Path:
    """What `plugin new` writes, as if installed: the package and its entry point, in a folder for the import path."""
    write(site, name, kind)
    module = f"corekit_{name.replace('-', '_')}"
    info = site / f"{module}-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: corekit-{name}\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[corekit]\n{name} = {module}\n")
    return site / module


def run(*command: str, site: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("COREKIT_", "ZOO_"))}
    environ |= {"PYTHONPATH": str(site)} if site is not None else {}
    return subprocess.run(
        [sys.executable, *command], env=environ, cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )


def corekit(*arguments: str, site: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return run("-m", "corekit", *arguments, site=site, cwd=cwd)


# ------------------------------------------------------------------------------------------------- new
@pytest.mark.parametrize("kind", ALL)
def test_what_is_written_passes_its_own_tests(kind: str, tmp_path: Path) -> None:
    done = corekit("plugin", "new", "my-part", "--kind", kind, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    package = tmp_path / "corekit-my-part"
    assert "Next: cd corekit-my-part && pip install -e '.[test]' && pytest && corekit " in done.stdout
    tested = run("-m", "pytest", "-q", "-p", "no:cacheprovider", site=package, cwd=package)
    assert tested.returncode == 0, tested.stdout
    assert " passed" in tested.stdout


def test_what_was_written_is_told_as_json(tmp_path: Path) -> None:
    done = corekit("plugin", "new", "shelf", "--kind", "command", "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert (told["name"], told["kind"], told["directory"]) == ("shelf", "command", "corekit-shelf")
    assert told["use"] == "corekit shelf --help"
    package = tmp_path / told["directory"]
    assert told["files"] == sorted(str(path.relative_to(package)) for path in package.rglob("*") if path.is_file())


def test_every_kind_can_be_begun() -> None:
    assert set(ALL) == set(KINDS) - {"service"}, "a service has no contract: write one beside another plugin"


def test_what_is_written_is_in_good_form(tmp_path: Path) -> None:
    for kind in ALL:
        write(tmp_path / kind, f"my-{kind}", kind)
    for words in (("check", "--extend-select", "PT,RET,C4,PIE,ASYNC"), ("format", "--check")):
        done = run("-m", "ruff", *words, "--no-cache", str(tmp_path))
        assert done.returncode == 0, done.stdout
    packages = [str(tmp_path / kind / f"corekit_my_{kind}") for kind in ALL]
    done = run("-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), *packages, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    left = [path for path in tmp_path.rglob("*.*") if path.is_file() and "{{" in path.read_text("utf-8", "replace")]
    assert [path for path in left if "cache" not in path.parts] == []


def test_the_files_of_a_package() -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as directory:
        assert write(Path(directory), "two-words", "storage") == [
            ".gitignore",
            "README.md",
            "corekit_two_words/__init__.py",
            "corekit_two_words/conformance.py",
            "corekit_two_words/py.typed",
            "corekit_two_words/storage.py",
            "pyproject.toml",
            "tests/test_conformance.py",
        ]
        text = (Path(directory) / "pyproject.toml").read_text()
        assert 'name = "corekit-two-words"' in text
        assert 'two-words = "corekit_two_words"' in text
        assert "class TwoWordsStorage:" in (Path(directory) / "corekit_two_words/storage.py").read_text()


@pytest.mark.parametrize("name", ["", "Big", "1st", "a_b", "a--b", "-a", "a.b", "a/b", "ünlaut"])
def test_a_name_that_cannot_be_one_is_refused(name: str, tmp_path: Path) -> None:
    done = corekit("plugin", "new", "--kind", "storage", "--", name, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip() == (
        f"corekit: {name} is no name for a plugin; accepted are lower case letters, digits, and dashes between"
    )
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    done = corekit("plugin", "new", "a", "--kind", "auth", "--dir", "full", cwd=tmp_path)
    assert done.returncode == 2
    assert "full is not empty; name another directory with --dir" in done.stderr
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    assert corekit("plugin", "new", "a", "--kind", "auth", "--dir", "empty", cwd=tmp_path).returncode == 0
    done = corekit("plugin", "new", "a", "--kind", "auth", "--dir", "full/mine", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "corekit: cannot write full/mine: Not a directory; name another directory with --dir\n",
    )
    with pytest.raises(UserError, match="cannot write"):
        write(tmp_path / "full" / "mine", "a", "auth")


def test_the_name_of_an_installed_plugin_is_refused(tmp_path: Path) -> None:
    done = corekit("plugin", "new", "rocks", "--kind", "storage", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is a plugin rocks (corekit " in done.stderr
    assert "already, and a name stands for one plugin; choose another name" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_is_refused_with_those_there_are(tmp_path: Path) -> None:
    done = corekit("plugin", "new", "a", "--kind", "engine", cwd=tmp_path)
    assert done.returncode == 2
    assert "'storage'" in done.stderr


def test_the_storage_that_is_written_finds_a_flipped_bit_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(tmp_path, "bits", "storage")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("corekit_bits.storage")
    storage = module.BitsStorage(tmp_path / "data")
    storage.open()
    storage.append(1, [b"first", b"second"], 2)
    storage.close()
    journal = tmp_path / "data" / "journal"
    whole = journal.read_bytes()
    for at in range(len(whole)):
        journal.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(DamagedError):
            module.BitsStorage(tmp_path / "data").open()
    journal.write_bytes(whole + bytes(100))  # zeros at the end were never written
    storage = module.BitsStorage(tmp_path / "data")
    assert storage.open().last_zxid == 2
    storage.close()


# -------------------------------------------------------------------------------- all of them, at work
def test_six_of_them_run_one_server(tmp_path: Path) -> None:
    """Storage, consensus, transport, protocol, auth and observer, each as it was written."""
    site = tmp_path / "site"
    kinds = ["storage", "consensus", "transport", "protocol", "auth", "observer"]
    for kind in kinds:
        distribution(site, f"my-{kind}", kind)
    names = ",".join(["zookeeper", *(f"my-{kind}" for kind in kinds)])
    settings = ["-s", "plugin.my-protocol.port=0", "-s", "plugin.my-auth.users=alice:secret"]
    settings += ["-s", "plugin.my-protocol.address=127.0.0.1", "-s", "clientPortAddress=127.0.0.1"]

    def serve() -> ServerProcess:
        return ServerProcess("-p", names, "-d", str(tmp_path / "data"), *settings, environ={"PYTHONPATH": str(site)})

    with serve() as server:
        server.wait_for("plugins: my-auth, my-consensus, my-observer, my-protocol, my-storage, my-transport, zookeeper")
        ports = sorted(
            int(text.strip().rpartition(":")[2])
            for text in server.wait_for("listens on").split("listens on ")[1].split(", data in")[0].split(",")
        )
        zookeeper = next(port for port in ports if speaks_zookeeper(port))
        (lines,) = set(ports) - {zookeeper}
        with RawClient("127.0.0.1", zookeeper) as client:
            client.handshake()
            assert client.auth("my-auth", b"alice:secret").err == 0
            assert client.create("/a", b"from zookeeper").err == 0
        assert talk(lines, b"get /a\n") == b"ok 14\nfrom zookeeper"
        assert talk(lines, b"set /a 4\nline") == b"ok 0\n"
        assert server.stop() == 0
    with serve() as server:
        server.wait_for("listens on")
        ports = [
            int(text.strip().rpartition(":")[2])
            for text in server.wait_for("listens on").split("listens on ")[1].split(", data in")[0].split(",")
        ]
        (lines,) = (port for port in ports if not speaks_zookeeper(port))
        assert talk(lines, b"get /a\n") == b"ok 4\nline"


def talk(port: int, request: bytes) -> bytes:
    import socket

    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(request)
        answer = plain.recv(1000)
        plain.sendall(b"quit\n")
        while plain.recv(1000):
            pass
        return answer


def speaks_zookeeper(port: int) -> bool:
    import socket

    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(b"srvr\n")
        try:
            return b"Zxid" in plain.recv(1000)
        except ConnectionResetError:
            return False


# ------------------------------------------------------------------------------------------------ test
def test_an_installed_plugin_is_tested_by_name(tmp_path: Path) -> None:
    distribution(tmp_path, "my-auth", "auth")
    done = corekit("plugin", "test", "my-auth", site=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "plugin my-auth (corekit-my-auth 0.1.0), kind auth: MyAuth"
    assert "  ok    proved identity is covered by itself" in lines
    assert lines[-1] == "11 passed, 0 failed, 0 left out: the plugin keeps its contract"


def test_a_broken_one_is_told_in_sentences(tmp_path: Path) -> None:
    package = distribution(tmp_path, "my-auth", "auth")
    text = (package / "scheme.py").read_text()
    (package / "scheme.py").write_text(text.replace("return bool(acl_id) and", "return"))
    done = corekit("plugin", "test", "my-auth", site=tmp_path)
    assert done.returncode == 1
    assert "  FAIL  validity of acl ids" in done.stdout
    assert "AssertionError: '' should not be valid" in done.stdout
    assert "10 passed, 1 failed, 0 left out: the plugin breaks its contract" in done.stdout
    assert "More with --verbose." in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    verbose = corekit("plugin", "test", "my-auth", "--verbose", site=tmp_path)
    assert ">           assert scheme.valid(acl_id) is False" in verbose.stdout


BADGE = """
from corekit.errors import ConfigError
kind = "auth"

class Badge:
    name = "badge"
    authenticated = True
    def authenticate(self, data, peer): return None
    def on_connect(self, peer): return ()
    def valid(self, acl_id): return acl_id.isalnum()
    def matches(self, identity, acl_id): return self.valid(acl_id) and identity == acl_id

@hookimpl
def register_auth_schemes(context):
    if "secret" not in context.options:
        raise ConfigError("plugin.badge.secret is missing")
    return [Badge()]
"""

STORE = """
from corekit.errors import ConfigError
from pathlib import Path
from corekit_kept.storage import KeptStorage
kind = "storage"

@hookimpl
def make_storage(context):
    if context.options.get("word") != "hello":
        raise ConfigError("plugin.bare.word is missing")
    return KeptStorage(Path(context.data_dir))
"""


def test_one_without_tests_of_its_own_is_made_with_the_settings_that_are_given(tmp_path: Path) -> None:
    install(tmp_path, "badge", BADGE)
    done = corekit("plugin", "test", "badge", site=tmp_path)
    assert (done.returncode, done.stderr) == (2, "corekit: plugin.badge.secret is missing\n")
    done = corekit("plugin", "test", "badge", "-s", "plugin.badge.secret=x", site=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  skip  matching (no samples: subclass AuthSuite and name the module" in done.stdout
    assert done.stdout.splitlines()[-1] == "6 passed, 0 failed, 5 left out: the plugin keeps its contract"
    distribution(tmp_path, "my-auth", "auth")
    done = corekit("plugin", "test", "my-auth", "-s", "plugin.my-auth.users=a:b", site=tmp_path)
    assert done.returncode == 2
    assert "say which settings it gets; leave out --set" in done.stderr


@pytest.mark.slow
def test_a_storage_without_tests_of_its_own_is_killed_all_the_same(tmp_path: Path) -> None:
    distribution(tmp_path, "kept", "storage")
    install(tmp_path, "bare", STORE)
    done = corekit("plugin", "test", "bare", "-s", "plugin.bare.word=hello", site=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  ok    kill 9" in done.stdout


def test_the_report_is_there_for_programs_as_well(tmp_path: Path) -> None:
    package = distribution(tmp_path, "my-auth", "auth")
    done = corekit("plugin", "test", "my-auth", "--json", site=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    head = {"name": "my-auth", "kind": "auth", "package": "corekit-my-auth", "version": "0.1.0"}
    assert {key: report[key] for key in head} == head
    assert report["keeps_its_contract"] is True
    assert {"suite": "MyAuth", "promise": "matching", "result": "kept", "note": None, "error": None} in report[
        "promises"
    ]
    text = (package / "scheme.py").read_text()
    (package / "scheme.py").write_text(text.replace("return bool(acl_id) and", "return"))
    done = corekit("plugin", "test", "my-auth", "--json", site=tmp_path)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["keeps_its_contract"] is False
    (broken,) = (one for one in report["promises"] if one["result"] == "broken")
    assert broken["promise"] == "validity of acl ids"
    assert "'' should not be valid" in broken["error"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("solo", "plugin solo (corekit {version}), kind consensus: Conformance"),
        ("zab", "plugin zab (corekit {version}), kind consensus: Alone, AmongThree"),
        ("digest", "plugin digest (corekit {version}), kind auth: digest, ip, world"),
        ("memory-transport", "plugin memory-transport (corekit {version}), kind transport: MemoryTransport"),
        ("zookeeper", "plugin zookeeper (corekit {version}), kind protocol: ZooKeeper"),
        ("recipes", "plugin recipes (corekit {version}), kind recipe: Conformance"),
    ],
)
def test_our_own_pass(name: str, shown: str) -> None:
    from corekit import __version__

    done = corekit("plugin", "test", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0] == shown.replace("{version}", __version__)
    assert done.stdout.splitlines()[-1].endswith(": the plugin keeps its contract")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rocks", "memory", "tcp"])
def test_our_own_pass_that_take_longer(name: str) -> None:
    done = corekit("plugin", "test", name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_cannot_be_tested_says_why(tmp_path: Path) -> None:
    package = distribution(tmp_path, "my-protocol", "protocol")
    assert (
        "there is no plugin my-protocl. Did you mean my-protocol?"
        in corekit("plugin", "test", "my-protocl", site=tmp_path).stderr
    )
    text = (package / "__init__.py").read_text()
    (package / "__init__.py").write_text(text.replace('suite = "', 'suite = "no.'))
    done = corekit("plugin", "test", "my-protocol", site=tmp_path)
    assert done.returncode == 2
    assert "its tests no.corekit_my_protocol.conformance cannot be imported: No module named 'no'" in done.stderr
    (package / "__init__.py").write_text(text.replace("suite = ", "other = "))
    done = corekit("plugin", "test", "my-protocol", site=tmp_path)
    assert done.returncode == 2
    assert 'name it in the plugin: suite = "package.module"' in done.stderr
    (package / "__init__.py").write_text(text.replace(".conformance", ".protocol"))
    assert "corekit_my_protocol.protocol has no tests" in corekit("plugin", "test", "my-protocol", site=tmp_path).stderr


def test_without_pytest_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "pytest.py").write_text("raise ModuleNotFoundError(\"No module named 'pytest'\", name='pytest')")
    done = corekit("plugin", "test", "solo", site=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "corekit: corekit plugin test needs pytest: pip install 'corekit[test]'\n"


# --------------------------------------------------------------------------------- wheels, a fresh venv
@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with corekit from its wheel; third-party packages are borrowed from this one."""
    base = tmp_path_factory.mktemp("fresh")
    source = base / "corekit"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "corekit", "plugins", "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    for name in filter(None, [*files, "README.md"]):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    venv = base / "venv"
    assert run("-m", "venv", str(venv)).returncode == 0
    (borrowed,) = venv.glob("lib/python*/site-packages")
    (borrowed / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install_wheel(venv, source)
    return venv


def install_wheel(venv: Path, source: Path) -> None:
    """Build a wheel of a folder and install it."""
    wheels = source.with_name(f"{source.name}-wheels")
    build = ("-m", "pip", "wheel", "-q", "--no-deps", "-w", str(wheels), str(source))
    done = run(*build, cwd=source.parent)
    assert done.returncode == 0, done.stderr
    words = ["-m", "pip", "install", "-q", "--no-deps", "--no-index", "--force-reinstall"]
    words += [str(wheel) for wheel in wheels.glob("*.whl")]
    done = subprocess.run([str(venv / "bin/python"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ALL)
def test_what_is_written_works_in_a_fresh_environment(fresh: Path, tmp_path: Path, kind: str) -> None:
    """`plugin new`, install, its tests, its conformance suite, its style and types: as a stranger does it."""

    def command(*words: str, cwd: Path = tmp_path) -> str:
        environ = {"PATH": f"{fresh / 'bin'}:{os.environ['PATH']}"}
        done = subprocess.run(words, cwd=cwd, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    name = f"fresh-{kind}"
    command("corekit", "plugin", "new", name, "--kind", kind)
    package = tmp_path / f"corekit-{name}"
    install_wheel(fresh, package)
    assert " passed" in command("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=package)
    assert "the plugin keeps its contract" in command("corekit", "plugin", "test", name)
    command("python", "-m", "ruff", "check", "--no-cache", cwd=package)
    command("python", "-m", "ruff", "format", "--check", "--no-cache", cwd=package)
    command("python", "-m", "mypy", "--cache-dir", str(tmp_path / "mypy"), cwd=package)
    named = [] if kind in ("command", "recipe") else ["-p", name]
    used = {one["name"]: one["why"] for one in json.loads(command("corekit", "plugins", "--json", *named))}
    assert used[name] == ("named" if named else "its commands are used when it is installed")
