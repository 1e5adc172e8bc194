"""Finding, choosing and wiring plugins, with small distributions of strangers made on the spot."""

import logging
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corekit.api import API_VERSION, Observer
from corekit.config import Settings, load
from corekit.errors import ConfigError, PluginError
from corekit.hooks import HOOK_NAMES, KINDS, Parts
from corekit.plugins import describe, wire
from corekit.plugins.discover import peek_kind

HEAD = f"from corekit.hooks import hookimpl\napi_version = {API_VERSION}\n"

STORAGE = """
kind = "storage"

class Store:
    def open(self, *, set_aside=False): ...
    def append(self, first_zxid, entries, last_zxid): ...
    def save_epochs(self, accepted, current): ...
    def clear_damage(self): ...
    def truncate(self, zxid): ...
    def write_state(self, zxid, puts, deletes): ...
    def begin_state(self): ...
    def stage_state(self, puts): ...
    def commit_state(self, zxid): ...
    def sync(self): ...
    def read_log(self, after_zxid, max_bytes): ...
    def read_state(self): ...
    def first_zxid(self): ...
    def purge(self, upto_zxid): ...
    def usage(self): ...
    def close(self): ...

@hookimpl
def make_storage(context):
    store = Store()
    store.context = context
    return store
"""

AUTH = """
kind = "auth"

class Scheme:
    name = "SCHEME"
    authenticated = True
    def authenticate(self, data, peer): ...
    def on_connect(self, peer): ...
    def valid(self, acl_id): ...
    def matches(self, identity, acl_id): ...

@hookimpl
def register_auth_schemes():
    return [Scheme()]
"""

OBSERVER = """
from corekit.api import Observer
kind = "observer"

class Watcher(Observer):
    def committed(self, zxid, entry): ...

@hookimpl
def register_observers(context):
    return [Watcher()]
"""

Stranger = Callable[..., str]


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stranger]:
    """Install a distribution: `stranger("sqlite", source)` gives a package `corekit-sqlite` with that plugin."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def install(
        name: str, source: str, *, package: str = "", version: str = "2.3", head: str = HEAD, target: str = ""
    ) -> str:
        package = package or f"corekit-{name}"
        module = package.replace("-", "_") + "_plugin"
        (tmp_path / f"{module}.py").write_text(head + textwrap.dedent(source))
        info = tmp_path / f"{package.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        with (info / "entry_points.txt").open("a") as file:
            file.write(f"[corekit]\n{name} = {module}{target}\n")
        return module

    yield install
    for module in set(sys.modules) - before:
        del sys.modules[module]


def settings(*plugins: str, **more: str) -> Settings:
    options = [(key, value, "test") for key, value in more.items()]
    return load(environ={}, options=[*options, ("plugins", ",".join(plugins), "test")]).settings


def wired(*plugins: str, **more: str) -> Parts:
    """Only memory and named plugins, so that nothing but corekit's own small parts is needed."""
    named = plugins if any(name in plugins for name in ("sqlite", "memory")) else (*plugins, "memory")
    return wire(settings(*named, **more), environ={})


def refusal(*plugins: str, **more: str) -> str:
    with pytest.raises(PluginError) as caught:
        wired(*plugins, **more)
    assert caught.value.exit_code == 2
    return str(caught.value)


def names(parts: Parts) -> dict[str, str]:
    return {info.name: info.why for info in parts.infos}


# -------------------------------------------------------------------------------------------- choosing
def test_kinds_not_named_get_their_default() -> None:
    parts = wired("memory")
    assert names(parts) == {
        "memory": "named",
        "solo": "default consensus",
        "tcp": "default transport",
        "zookeeper": "default protocol",
        "digest": "default auth",
    }
    assert type(parts.storage).__name__ == "MemoryStorage"
    assert [protocol.name for protocol in parts.protocols] == ["zookeeper"]
    assert "digest" in parts.auth_schemes


def test_a_strangers_plugin_takes_the_place_of_the_default(stranger: Stranger) -> None:
    stranger("sqlite", STORAGE)
    parts = wired("sqlite", **{"plugin.sqlite.cache": "4m"})
    assert type(parts.storage).__name__ == "Store"
    assert names(parts)["sqlite"] == "named"
    assert "memory" not in names(parts)
    assert "rocks" not in names(parts)
    context = parts.storage.context  # type: ignore[attr-defined]
    assert context.name == "sqlite"
    assert context.options == {"cache": "4m"}
    assert context.logger.name == "corekit.plugin.sqlite"
    assert context.clock.wall_ms() > 1_600_000_000_000


def test_the_order_of_names_never_matters(stranger: Stranger) -> None:
    stranger("sqlite", STORAGE)
    stranger("token", AUTH.replace("SCHEME", "token"))
    stranger("watch", OBSERVER)
    one, other = wired("sqlite", "token", "digest", "watch"), wired("watch", "digest", "token", "sqlite")
    assert one.infos == other.infos
    assert list(one.auth_schemes) == list(other.auth_schemes)
    assert [type(o).__name__ for o in one.observers] == [type(o).__name__ for o in other.observers] == ["Watcher"]


def test_naming_one_of_a_kind_replaces_the_default_of_that_kind(stranger: Stranger) -> None:
    stranger("token", AUTH.replace("SCHEME", "token"))
    assert list(wired("token").auth_schemes) == ["token"]
    assert {"token", "digest"} <= set(wired("token", "digest").auth_schemes)


def test_a_plugin_can_be_excluded() -> None:
    assert "digest" not in wired("memory", **{"plugins.excluded": "digest"}).auth_schemes
    message = refusal("memory", **{"plugins.excluded": "tcp"})
    assert message == "no transport is left: tcp is excluded; name another plugin of kind transport"
    assert "named and excluded" in refusal("memory", "digest", **{"plugins.excluded": "digest"})
    assert "there is no plugin digst. Did you mean digest?" in refusal("memory", **{"plugins.excluded": "digst"})


def test_two_of_a_kind_that_a_server_has_one_of_are_refused(stranger: Stranger) -> None:
    stranger("sqlite", STORAGE)
    message = refusal("sqlite", "memory")
    assert message == "memory and sqlite are both of kind storage, and a server has one storage; name one of them"


def test_an_unknown_name_lists_what_is_installed_and_suggests(stranger: Stranger) -> None:
    stranger("sqlite", STORAGE)
    message = refusal("memory", "sqlit")
    assert message.startswith("there is no plugin sqlit. Did you mean sqlite? Installed are: ")
    for name in ("digest", "memory", "rocks", "solo", "sqlite", "tcp", "zab", "zookeeper"):
        assert name in message
    assert "Did you mean" not in refusal("memory", "qqqqq")


def test_the_case_of_a_name_is_no_reason_not_to_find_the_nearest() -> None:
    assert "there is no plugin ROKS. Did you mean rocks?" in refusal("ROKS")


def test_an_ensemble_gets_the_consensus_for_ensembles() -> None:
    from corekit.plugins.choose import default_name

    servers = [(f"server.{n}", f"h{n}:1:2", "test") for n in (1, 2, 3)]
    ensemble = load(environ={}, options=[*servers, ("myid", "1", "test")]).settings
    assert default_name("consensus", ensemble) == "zab"
    assert default_name("consensus", Settings()) == "solo"


def test_the_consensus_of_one_is_refused_for_several() -> None:
    servers = [(f"server.{n}", f"h{n}:1:2", "test") for n in (1, 2, 3)]
    named = ("plugins", "solo,memory", "test")
    with pytest.raises(ConfigError, match="the settings name 3: leave out solo or the others"):
        wire(load(environ={}, options=[*servers, ("myid", "1", "test"), named]).settings)
    assert wire(load(environ={}, options=[named]).settings).consensus.status().mode == "standalone"


def test_what_is_not_used_is_not_imported(stranger: Stranger) -> None:
    module = stranger("boom", "raise SystemError('imported')")
    other = stranger("sqlite", STORAGE)
    wired("sqlite")
    assert other in sys.modules
    assert module not in sys.modules
    assert "rocksdict" not in wired_modules()


def wired_modules() -> set[str]:
    """Modules of a fresh interpreter that has wired a server with memory storage."""
    import subprocess

    code = (
        "import sys; from corekit.config import load; from corekit.plugins import wire;"
        "wire(load(environ={}, options=[('plugins', 'memory', '')]).settings); print(*sys.modules)"
    )
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


# ---------------------------------------------------------------------------------- broken plugins
@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ("raise RuntimeError('no disk')", ["cannot be imported: RuntimeError: no disk"]),
        ("import nothing_like_it", ["cannot be imported: ModuleNotFoundError", "nothing_like_it"]),
        ("kind = ['storage']", ["has kind ['storage']; kinds are storage, consensus"]),
        ("kind = 'store'", ["has kind 'store'; kinds are storage, consensus"]),
        ("", ["has kind None"]),
        ("kind = 'storage'", ["is of kind storage but has no function make_storage marked with @hookimpl"]),
        (
            "kind = 'storage'\ndef make_storage(context): ...",
            ["is of kind storage but has no function make_storage marked with @hookimpl"],
        ),
        (
            "kind = 'storage'\n@hookimpl\ndef make_storag(context): ...",
            ["there is no hook make_storag; did you mean make_storage?"],
        ),
        ("kind = 'recipe'\n@hookimpl\ndef frobnicate(): ...", ["there is no hook frobnicate; hooks are make_client"]),
        (
            "kind = 'storage'\n@hookimpl\ndef make_storage(context, path): ...",
            ["make_storage takes path; the hook is called with context"],
        ),
        (
            STORAGE + "\n@hookimpl\ndef make_consensus(context): ...",
            ["is of kind storage and must not implement make_consensus"],
        ),
        ("kind = 'storage'\n@hookimpl\ndef make_storage(context): return None", ["make_storage returned nothing"]),
        (
            "kind = 'storage'\n@hookimpl\ndef make_storage(context): raise OSError('gone')",
            ["failed in make_storage: OSError: gone"],
        ),
        (
            "kind = 'storage'\n@hookimpl\ndef make_storage(context): raise SystemExit(0)",
            ["failed in make_storage: SystemExit: 0"],
        ),
        (
            STORAGE.replace("def sync(self): ...", ""),
            ["Store is no Storage: sync is missing"],
        ),
        (
            STORAGE.replace("(self, zxid, puts, deletes)", "(self, zxid, puts)"),
            ["write_state(", "does not fit (zxid, puts): too many positional arguments"],
        ),
        (
            STORAGE.replace("def close(self)", "async def close(self)"),
            ["close(", "must not be async"],
        ),
        (STORAGE.replace(", *, set_aside=False", ""), ["open(", "got an unexpected keyword argument 'set_aside'"]),
        (
            STORAGE.replace("(self, upto_zxid)", "(self, upto_zxid, why)"),
            ["purge(", "missing a required argument: 'why'"],
        ),
    ],
)
def test_a_broken_plugin_is_named_with_its_version_and_the_reason(
    stranger: Stranger, source: str, texts: list[str]
) -> None:
    stranger("sqlite", source)
    message = refusal("sqlite")
    assert "plugin sqlite (corekit-sqlite 2.3)" in message
    for text in texts:
        assert text in message


@pytest.mark.parametrize(
    ("version", "text"),
    [
        (API_VERSION + 1, f"{API_VERSION + 1}, this corekit has API version {API_VERSION}: install a newer corekit"),
        (API_VERSION - 1, f"{API_VERSION - 1}, this corekit has API version {API_VERSION}: install a newer release"),
        ("'1'", f"has no api_version; write api_version = {API_VERSION}"),
    ],
)
def test_another_api_version_is_refused_with_both_named(stranger: Stranger, version: object, text: str) -> None:
    stranger("sqlite", STORAGE, head=f"from corekit.hooks import hookimpl\napi_version = {version}\n")
    assert text in refusal("sqlite")


def test_a_user_error_of_a_plugin_keeps_its_own_words(stranger: Stranger) -> None:
    stranger(
        "sqlite",
        """
        from corekit.errors import UserError
        kind = "storage"
        @hookimpl
        def make_storage(context):
            raise UserError("plugin.sqlite.cache=x is not accepted; accepted is a size", 3)
        """,
    )
    from corekit.errors import UserError

    with pytest.raises(UserError, match=r"^plugin\.sqlite\.cache=x") as caught:
        wired("sqlite")
    assert caught.value.exit_code == 3


def test_one_name_from_two_packages_is_refused_when_it_is_used(stranger: Stranger) -> None:
    stranger("sqlite", STORAGE)
    stranger("sqlite", STORAGE, package="other-sqlite")
    assert refusal("sqlite") == (
        "plugin sqlite is brought by several packages: corekit-sqlite, other-sqlite. Uninstall all but one"
    )
    wired("memory")


def test_nobody_can_take_the_name_of_a_default_unseen(stranger: Stranger) -> None:
    stranger("tcp", STORAGE, package="evil")
    assert refusal("memory") == "plugin tcp is brought by several packages: corekit, evil. Uninstall all but one"


def test_two_plugins_cannot_register_one_scheme(stranger: Stranger) -> None:
    stranger("token", AUTH.replace("SCHEME", "digest"))
    message = refusal("token", "digest")
    assert message.startswith("the authentication scheme digest is registered twice: by plugin digest (corekit ")
    assert "by plugin token (corekit-token 2.3)" in message


def test_an_object_can_be_the_plugin_and_a_class_cannot(stranger: Stranger) -> None:
    source = f"""
    from corekit.api import Observer
    class Plugin:
        kind = "observer"
        api_version = {API_VERSION}
        @hookimpl
        def register_observers(self, context):
            return [Observer()]
    plugin = Plugin()
    """
    stranger("audit", source, target=":plugin")
    assert len(wired("audit").observers) == 1
    stranger("audit2", source, target=":Plugin")
    assert "is a class; the entry point must name a module or an object" in refusal("audit2")


@pytest.mark.parametrize(
    ("what", "result", "text"),
    [
        ("observers", "[object()]", "object is no corekit.api.Observer"),
        ("observers", "None", "register_observers returned NoneType, not a list"),
        ("observers", "'ab'", "register_observers returned str, not a list"),
        ("services", "[Service('s', lambda: 1)]", "run of the Service s is called with (gateway): too many"),
        (
            "admin_commands",
            "[AdminCommand(('c',), '', lambda gateway: {})]",
            "run of the AdminCommand c is called with (gateway, parameters): too many",
        ),
    ],
)
def test_what_is_registered_is_checked(stranger: Stranger, what: str, result: str, text: str) -> None:
    head = HEAD + "from corekit.hooks import AdminCommand, Service\n@hookimpl\ndef register_observers(): return []\n"
    stranger("audit", f"kind = 'observer'\n@hookimpl\ndef register_{what}(): return {result}", head=head)
    assert text in refusal("audit")


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (
            "committed(self, zxid)",
            "Seer is no Observer: committed(self, zxid: 'int', entry: 'bytes') -> 'None': does not fit",
        ),
        ("comitted(self, zxid, entry)", "Seer.comitted would never be called; did you mean committed?"),
    ],
)
def test_an_observer_that_would_see_nothing_is_refused(stranger: Stranger, method: str, text: str) -> None:
    source = f"""
    from corekit.api import Observer
    kind = "observer"
    class Seer(Observer):
        def {method}: ...
    @hookimpl
    def register_observers(context): return [Seer()]
    """
    stranger("audit", source)
    assert text in refusal("audit")


@pytest.mark.parametrize(
    ("named", "excluded", "warned"), [(("token",), "", 1), (("token", "digest"), "", 0), (("token",), "digest", 0)]
)
def test_a_scheme_instead_of_digest_is_warned_of(
    stranger: Stranger, caplog: pytest.LogCaptureFixture, named: tuple[str, ...], excluded: str, warned: int
) -> None:
    stranger("token", AUTH.replace("SCHEME", "token"))
    with caplog.at_level(logging.WARNING, "corekit.plugins"):
        wired(*named, **{"plugins.excluded": excluded})
    assert sum("token replaces digest" in record.getMessage() for record in caplog.records) == warned


def test_a_scheme_is_checked_like_a_part(stranger: Stranger) -> None:
    stranger("token", AUTH.replace("def valid(self, acl_id): ...", ""))
    assert "Scheme is no AuthScheme: valid is missing" in refusal("token")


def test_a_storage_plugin_may_bring_observers_commands_and_services(stranger: Stranger) -> None:
    more = """
from corekit.api import Observer
from corekit.hooks import AdminCommand, Service

@hookimpl
def register_observers(context): return [Observer()]

@hookimpl
def register_admin_commands(): return [AdminCommand(("compact", "cmp"), "Compact.", lambda gateway, query: {})]

async def work(gateway): ...

@hookimpl
def register_services(context): return [Service("work", work)]
"""
    stranger("sqlite", STORAGE + more)
    parts = wired("sqlite")
    assert isinstance(parts.observers[-1], Observer)
    assert {"compact", "cmp"} <= set(parts.admin_commands)
    assert "work" in [service.name for service in parts.services]


def test_an_enforced_scheme_that_nobody_brings_stops_the_start() -> None:
    with pytest.raises(ConfigError, match="clients must prove the scheme sasl, but no plugin brings it"):
        wired("memory", sessionRequireClientSASLAuth="true")
    with pytest.raises(ConfigError, match="names no scheme"):
        wired("memory", **{"enforce.auth.enabled": "true"})
    wired("memory", **{"enforce.auth.enabled": "true", "enforce.auth.schemes": "digest"})


# --------------------------------------------------------------------------------------- cold events
def test_events_reach_every_plugin_even_if_one_raises(stranger: Stranger, caplog: pytest.LogCaptureFixture) -> None:
    stranger(
        "audit",
        OBSERVER
        + """
seen = []
@hookimpl
def server_started(addresses): seen.append(list(addresses))
@hookimpl
def role_changed(mode, epoch): seen.append((mode, epoch))
@hookimpl
def server_stopping(why): seen.append(why)
""",
    )
    stranger("bad", OBSERVER + "\n@hookimpl\ndef server_started(): raise RuntimeError('oops')\n")
    parts = wired("bad", "audit")
    parts.events.server_started(["127.0.0.1:2181"])
    parts.events.role_changed("leader", 7)
    parts.events.server_stopping("SIGTERM")
    assert sys.modules["corekit_audit_plugin"].seen == [["127.0.0.1:2181"], ("leader", 7), "SIGTERM"]
    assert "plugin bad (corekit-bad 2.3) failed in server_started" in caplog.text


# -------------------------------------------------------------------------------- variables, listing
def test_plugins_of_strangers_can_be_hidden(stranger: Stranger) -> None:
    stranger("sqlite", STORAGE)
    stranger("audit", OBSERVER)

    def listed(value: str) -> set[str]:
        return {info.name for info in describe(Settings(), {"COREKIT_LOAD_PLUGINS": value})}

    assert not {"sqlite", "audit"} & listed("")
    assert {"sqlite", "audit"} & listed("sqlite, x") == {"sqlite"}
    assert {"sqlite", "audit"} & listed("corekit-audit") == {"audit"}
    assert {"memory", "rocks", "tcp"} <= listed("")


def test_hook_calls_can_be_traced(capsys: pytest.CaptureFixture[str]) -> None:
    wire(settings("memory"), environ={"COREKIT_TRACE_PLUGINS": "1"})
    text = capsys.readouterr().err
    assert "make_storage(context) -> memory" in text
    assert "make_storage: <corekit.builtin.memory.MemoryStorage" in text
    wire(settings("memory"), environ={"COREKIT_TRACE_PLUGINS": "0"})
    assert capsys.readouterr().err == ""


def test_the_list_says_what_is_used_and_why(stranger: Stranger) -> None:
    stranger("sqlite", STORAGE)
    stranger("broken", "raise RuntimeError('no')")
    stranger("lister", "kind = 'command'\n@hookimpl\ndef register_commands(app): ...")
    infos = {info.name: info for info in describe(settings("sqlite", **{"plugins.excluded": "digest"}), {})}
    sqlite = infos["sqlite"]
    assert (sqlite.kind, sqlite.package, sqlite.version) == ("storage", "corekit-sqlite", "2.3")
    assert sqlite.hooks == ("make_storage",)
    used = {name: info.why for name, info in infos.items() if info.used}
    assert used["sqlite"] == "named"
    assert used["tcp"] == "default transport"
    assert used["lister"] == "its commands are used when it is installed"
    assert infos["rocks"].why == "another storage is named"
    assert infos["memory"].why == "not named"
    assert infos["digest"].why == "excluded"
    assert infos["broken"].why == "broken"
    assert "RuntimeError: no" in infos["broken"].error


def test_the_list_says_last_why_a_server_would_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    from corekit.cli.plugins_cmd import plugins

    for names, why in (
        ("rocks,memory", "memory and rocks are both of kind storage"),
        ("memry", "there is no plugin memry. Did you mean memory?"),
        ("no:tcp", "no transport is left: tcp is excluded"),
    ):
        with pytest.raises(PluginError, match=why):
            plugins(names=[names])
        assert "\tzookeeper\tprotocol\t" in capsys.readouterr().out, "the list is there all the same"


def test_the_list_and_the_wiring_agree(stranger: Stranger) -> None:
    stranger("token", AUTH.replace("SCHEME", "token"))
    chosen = settings("memory", "token")
    listed = {info.name for info in describe(chosen, {}) if info.used and info.kind not in ("command", "recipe")}
    assert listed == {info.name for info in wire(chosen, environ={}).infos}


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("kind = 'command'", "command"),
        ("kind: str = 'recipe'", "recipe"),
        ("'kind = 1'\nkind = 'auth'", "auth"),
        ("kind = make()", None),
        ("def f():\n    kind = 'auth'", None),
        ("kind = (", None),
    ],
)
def test_the_kind_is_read_without_importing(stranger: Stranger, source: str, kind: str | None) -> None:
    module = stranger("peeked", source, head="")
    assert peek_kind(module) == kind
    assert module not in sys.modules


def test_the_kind_of_a_module_inside_a_package_is_read_without_importing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "outer_package" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "outer_package" / "__init__.py").write_text("raise SystemError('imported')")
    (package / "__init__.py").write_text("kind = 'command'")
    (package / "more.py").write_text("kind = 'recipe'")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert peek_kind("outer_package.inner") == "command"
    assert peek_kind("outer_package.inner.more") == "recipe"
    assert peek_kind("outer_package.nothing") is None
    assert peek_kind("no_such_package_at_all") is None


def test_every_kind_names_a_hook_that_exists() -> None:
    assert {hook for hook, _ in KINDS.values() if hook is not None} <= HOOK_NAMES


def test_corekits_own_plugins_say_their_kind_in_their_source() -> None:
    """Otherwise every command line would have to import them to find out."""
    for info in describe(Settings(), {"COREKIT_LOAD_PLUGINS": ""}):
        assert info.error == ""
        assert peek_kind(info.module) == info.kind, info.name
