"""Layers, origins, members of an ensemble, and rules between settings."""

from collections.abc import Callable
from pathlib import Path

import pytest

from corekit.config import Address, Loaded, load
from corekit.config.members import parse_server
from corekit.errors import ConfigError

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(content: str, name: str = "zoo.cfg") -> str:
        path = tmp_path / name
        path.write_text(content, "utf-8")
        return str(path)

    return write_file


def options(**values: str) -> list[tuple[str, str, str]]:
    return [(key, value, f"--set {key}") for key, value in values.items()]


def refused(*args: object, **named: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*args, **named)
    return str(caught.value)


# -------------------------------------------------------------------------------------------- layers
def test_the_later_layer_wins_and_is_the_origin(write: Write) -> None:
    path = write("tickTime=1\ninitLimit=1\nsyncLimit=1\nmaxClientCnxns=1\n")
    environ = {
        "ZOO_INIT_LIMIT": "2",
        "ZOO_SYNC_LIMIT": "2",
        "ZOO_MAX_CLIENT_CNXNS": "2",
        "COREKIT_SYNC_LIMIT": "3",
        "COREKIT_MAX_CLIENT_CNXNS": "3",
    }
    loaded = load(path, environ=environ, options=options(maxClientCnxns="4"))
    settings = loaded.settings
    assert (settings.tick_time_ms, settings.init_limit, settings.sync_limit, settings.max_client_cnxns) == (1, 2, 3, 4)
    assert loaded.origins["tick_time_ms"] == f"{path}:1"
    assert loaded.origins["init_limit"] == "$ZOO_INIT_LIMIT"
    assert loaded.origins["sync_limit"] == "$COREKIT_SYNC_LIMIT"
    assert loaded.origins["max_client_cnxns"] == "--set maxClientCnxns"
    assert loaded.origins["max_cnxns"] == "default"
    assert loaded.origins["max_session_timeout_ms"] == "follows tick_time_ms"
    assert loaded.config_file == path


def test_the_same_setting_under_several_names_is_one_setting(write: Write) -> None:
    path = write("jute.maxbuffer=2000\nzookeeper.jute.maxbuffer=3000\njute_max_buffer=4000\n")
    loaded = load(path, environ={})
    assert loaded.settings.jute_max_buffer == 4000
    assert loaded.origins["jute_max_buffer"] == f"{path}:3"


def test_every_field_has_an_origin() -> None:
    loaded = load(environ={})
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.warnings == []
    assert loaded.settings.data_dir == "corekit-data"


def test_a_file_that_omits_tick_time_means_zookeepers_default(write: Write) -> None:
    assert load(environ={}).settings.tick_time_ms == 2000
    assert load(write("initLimit=5\n"), environ={}).settings.tick_time_ms == 3000
    assert load(write("tickTime=500\n"), environ={}).settings.tick_time_ms == 500


def test_a_value_is_refused_even_where_a_later_layer_replaces_it(write: Write) -> None:
    path = write("tickTime=fast\n")
    assert refused(path, environ={"COREKIT_TICK_TIME_MS": "5"}).startswith(f"{path}:1: tickTime=fast ")


def test_a_secret_is_not_shown_when_it_is_refused() -> None:
    # Text is accepted whatever it is, so a parser that refuses is needed.
    from corekit.config.load import _Loader
    from corekit.config.parsers import integer
    from corekit.config.table import Setting

    with pytest.raises(ConfigError) as caught:
        _Loader().set(Setting("x", ("x",), integer(), 0, "", secret=True), load_entry("x", "hunter2"))
    assert "hunter2" not in str(caught.value)


def load_entry(key: str, text: str):
    from corekit.config import Entry

    return Entry(key, text, "here")


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("maxClientCnxn", "maxClientCnxns"),
        ("clientport", "clientPort"),
        ("4lw.command.whitelist", "4lw.commands.whitelist"),
        ("autopurge.purgeinterval", "autopurge.purgeInterval"),
        ("init_limt", "init_limit"),
        ("preAlocSize", "preAllocSize"),
    ],
)
def test_an_unknown_key_is_warned_of_with_the_nearest(key: str, nearest: str) -> None:
    assert load(options=[(key, "1", "here")], environ={}).warnings == [
        f"here: unknown key {key}; did you mean {nearest}?"
    ]


def test_a_key_like_no_other_is_warned_of_without_a_guess() -> None:
    assert load(options=[("qqq.zzz", "1", "here")], environ={}).warnings == ["here: unknown key qqq.zzz"]


def test_a_key_given_twice_in_a_file_is_warned_of(write: Write) -> None:
    path = write("tickTime=1\ntickTime=2\n")
    loaded = load(path, environ={})
    assert loaded.settings.tick_time_ms == 2
    assert loaded.warnings == [f"{path}:2: tickTime was given before at {path}:1; this one counts"]


def test_toml(write: Write) -> None:
    path = write('tickTime = 7\n[autopurge]\npurgeInterval = "5s"\n[plugin.sqlite]\ncache = "1m"\n', "c.toml")
    loaded = load(path, environ={})
    assert loaded.settings.tick_time_ms == 7
    assert loaded.settings.autopurge_interval_ms == 5000
    assert loaded.settings.plugin_options == {"sqlite": {"cache": "1m"}}
    assert loaded.origins["autopurge_interval_ms"] == f"{path}: autopurge.purgeInterval"


def test_options_of_plugins_are_merged_key_by_key(write: Write) -> None:
    path = write("plugin.sqlite.cache=1m\nplugin.sqlite.sync=full\nplugin.token.file.name=x\n")
    loaded = load(path, environ={}, options=[("plugin.sqlite.cache", "2m", "x")])
    assert loaded.settings.plugin_options == {"sqlite": {"cache": "2m", "sync": "full"}, "token": {"file.name": "x"}}


# ----------------------------------------------------------------------------------------- variables
def test_the_file_can_be_named_by_variables(write: Write, tmp_path: Path) -> None:
    path = write("tickTime=9\n")
    assert load(environ={"COREKIT_CONFIG": path}).settings.tick_time_ms == 9
    assert load(environ={"ZOO_CONF_DIR": str(tmp_path)}).settings.tick_time_ms == 9
    assert load(environ={"ZOO_CONF_DIR": str(tmp_path / "none")}).config_file is None


def test_variables_of_the_official_image() -> None:
    environ = {
        "ZOO_MY_ID": "2",
        "ZOO_SERVERS": "server.1=a:2888:3888;2181 server.2=b:2888:3888;2181 server.3=c:2888:3888;2181",
        "ZOO_TICK_TIME": "700",
        "ZOO_AUTOPURGE_PURGEINTERVAL": "2",
        "ZOO_AUTOPURGE_SNAPRETAINCOUNT": "9",
        "ZOO_STANDALONE_ENABLED": "false",
        "ZOO_ADMINSERVER_ENABLED": "true",
        "ZOO_4LW_COMMANDS_WHITELIST": "*",
        "ZOO_CFG_EXTRA": "jute.maxbuffer=2000 skipACL=yes",
        "ZOO_LOG_DIR": "/logs",
        "ZOO_DATA_DIR": "",
    }
    loaded = load(environ=environ)
    settings = loaded.settings
    assert loaded.warnings == []
    assert settings.my_id == 2
    assert [server.address.host for server in settings.servers] == ["a", "b", "c"]
    assert settings.tick_time_ms == 700
    assert settings.autopurge_interval_ms == 7_200_000
    assert settings.autopurge_snap_retain_count == 9
    assert not settings.standalone_enabled
    assert settings.admin_enabled
    assert settings.four_letter_enabled("wchp")
    assert (settings.jute_max_buffer, settings.skip_acl) == (2000, True)
    assert settings.data_dir == "corekit-data"
    assert loaded.origins["servers"] == "$ZOO_SERVERS"
    assert loaded.origins["skip_acl"] == "$ZOO_CFG_EXTRA"


def test_a_list_of_servers_in_a_variable_replaces_that_of_the_file(write: Write) -> None:
    path = write("server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2\n")
    environ = {"COREKIT_SERVERS": "x:1:2 y:1:2 z:1:2", "COREKIT_MY_ID": "1"}
    loaded = load(path, environ=environ)
    assert [(server.sid, server.address.host) for server in loaded.settings.servers] == [(1, "x"), (2, "y"), (3, "z")]


def test_system_properties_of_java_count_less_than_a_file(write: Write) -> None:
    path = write("dataDir=/d\nzookeeper.admin.enableServer=true\n")
    flags = (
        "-Xmx1g -Djute.maxbuffer=4194304 -Dzookeeper.admin.enableServer=false '-Dzookeeper.tickTime=500' -Dcom.sun.x=1"
    )
    loaded = load(path, environ={"JVMFLAGS": flags, "SERVER_JVMFLAGS": "-Dreadonlymode.enabled=true -verbose"})
    settings = loaded.settings
    assert (settings.jute_max_buffer, settings.tick_time_ms) == (4194304, 500)
    assert settings.admin_enabled
    assert settings.read_only_mode_enabled
    assert loaded.origins["jute_max_buffer"] == "$JVMFLAGS"
    assert loaded.warnings == []
    assert refused(environ={"JVMFLAGS": "-Dzookeeper.tickTime=soon"}).startswith(
        "$JVMFLAGS: zookeeper.tickTime=soon is not"
    )
    assert refused(environ={"JVMFLAGS": "-Dx='"}).startswith("$JVMFLAGS: No closing quotation")


def test_extra_without_a_value_is_refused() -> None:
    assert refused(environ={"ZOO_CFG_EXTRA": "skipACL"}).startswith("$ZOO_CFG_EXTRA: skipACL is not accepted")


def test_variables_of_kubernetes_services_are_not_ours() -> None:
    environ = {
        "COREKIT_CLIENT_PORT": "tcp://10.0.0.7:2181",
        "COREKIT_PORT": "tcp://10.0.0.7:2181",
        "COREKIT_CLIENT_SERVICE_HOST": "10.0.0.7",
        "COREKIT_CLIENT_SERVICE_PORT": "2181",
        "COREKIT_CLIENT_PORT_2181_TCP_ADDR": "10.0.0.7",
    }
    loaded = load(environ=environ)
    assert loaded.settings.client_port == 2181
    assert loaded.origins["client_port"] == "default"
    assert len(loaded.warnings) == 1
    assert loaded.warnings[0].startswith("$COREKIT_CLIENT_PORT=tcp://10.0.0.7:2181 is taken for")


def test_a_misspelt_variable_is_warned_of_and_a_commands_own_is_not() -> None:
    loaded = load(environ={"COREKIT_TICK_TIME": "5", "COREKIT_HOSTS": "a:2181", "COREKIT_TRACE_PLUGINS": "1"})
    assert loaded.warnings == ["$COREKIT_TICK_TIME: unknown variable; did you mean COREKIT_TICK_TIME_MS?"]
    loaded = load(
        environ={"ZOO_TICKTIME": "5", "ZOO_SERVICE_PORT": "1", "ZOO_PORT": "tcp://10.0.0.7:2181", "ZOO_LOG_DIR": "x"}
    )
    assert loaded.warnings == ["$ZOO_TICKTIME: unknown variable; did you mean ZOO_TICK_TIME?"]


# ------------------------------------------------------------------------------------------- members
@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("h:2888:3888", "h:2888:3888:participant"),
        ("h:2888:3888:observer", "h:2888:3888:observer"),
        ("h:2888:3888:OBSERVER;2181", "h:2888:3888:observer;0.0.0.0:2181"),
        ("h:2888:3888;2181", "h:2888:3888:participant;0.0.0.0:2181"),
        ("h:2888:3888;1.2.3.4:2181", "h:2888:3888:participant;1.2.3.4:2181"),
        ("[::1]:2888:3888;[::]:2181", "[::1]:2888:3888:participant;[::]:2181"),
        ("[2001:db8::1]:2888:3888:observer", "[2001:db8::1]:2888:3888:observer"),
        ("h:2888:3888;2181;2281", "h:2888:3888:participant;0.0.0.0:2181;0.0.0.0:2281"),
        ("h:2888:3888;;2281", "h:2888:3888:participant;;0.0.0.0:2281"),
        ("h:2888:3888|i:2889:3889", "h:2888:3888|i:2889:3889:participant"),
        ("h:2888:3888:observer|i:2889:3889:observer;2181", "h:2888:3888|i:2889:3889:observer;0.0.0.0:2181"),
        (" h:2888:3888 ", "h:2888:3888:participant"),
    ],
)
def test_a_servers_line_is_understood(line: str, text: str) -> None:
    spec = parse_server(1, line)
    assert spec.text() == text
    assert parse_server(1, spec.text()).addresses == spec.addresses


@pytest.mark.parametrize(
    "line",
    [
        "",
        "h",
        "h:2888",
        "h:2888:3888:leader",
        "h:2888:3888:participant:x",
        ":2888:3888",
        "h:x:3888",
        "h:2888:99999",
        "h:2888:-1",
        "h:2888:2888",
        "h:2888:3888;h:2888",
        "h:2888:3888;a:b:2181",
        "h:2888:3888;2181;2281;2381",
        "h:2888:3888:observer|i:2888:3888:participant",
        "::1:2888:3888",
        "[::1:2888:3888",
        "h:2888:3888|",
    ],
)
def test_a_malformed_servers_line_names_the_form(line: str) -> None:
    message = refused(options=[("server.1", line, "zoo.cfg:3")], environ={})
    assert message.startswith(f"zoo.cfg:3: server.1={line} is not accepted")
    assert "host:quorumPort:electionPort" in message


THREE = "server.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888\n"


def ensemble(write: Write, tmp_path: Path, more: str = "", myid: str | None = "1", servers: str = THREE) -> Loaded:
    if myid is not None:
        (tmp_path / "myid").write_text(myid)
    return load(write(f"dataDir={tmp_path}\n{servers}{more}"), environ={})


def test_an_ensemble(write: Write, tmp_path: Path) -> None:
    loaded = ensemble(write, tmp_path, myid="2\n")
    settings = loaded.settings
    assert settings.distributed
    assert settings.my_id == 2
    assert loaded.origins["my_id"] == str(tmp_path / "myid")
    assert settings.servers[1].address == Address("b", 2888, 3888)
    assert loaded.warnings == []


def test_one_server_is_an_ensemble_only_if_asked_for(write: Write, tmp_path: Path) -> None:
    one = "server.1=a:2888:3888\n"
    assert not ensemble(write, tmp_path, servers=one).settings.distributed
    assert ensemble(write, tmp_path, "standaloneEnabled=false\n", servers=one).settings.distributed
    assert not load(environ={}).settings.distributed


def test_an_ensemble_needs_to_know_which_server_this_is(write: Write, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lists 3 servers, but .*myid does not exist"):
        ensemble(write, tmp_path, myid=None)
    with pytest.raises(ConfigError, match=r"this is server 4, but .* lists only 1, 2, 3"):
        ensemble(write, tmp_path, myid="4")
    for text in ("", "one", "256", "-1", "1 2", "²"):
        with pytest.raises(ConfigError, match="must hold the number of this server"):
            ensemble(write, tmp_path, myid=text)


def test_a_number_that_contradicts_the_data_directory_is_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "myid").write_text("1")
    path = write(f"dataDir={tmp_path}\n")
    assert load(path, environ={"ZOO_MY_ID": "1"}).settings.my_id == 1
    message = refused(path, environ={"ZOO_MY_ID": "2"})
    assert "says that this is server 1" in message
    assert "$ZOO_MY_ID says 2" in message


def test_the_own_line_gives_the_client_port(write: Write, tmp_path: Path) -> None:
    servers = THREE.replace("server.2=b:2888:3888", "server.2=b:2888:3888;10.0.0.2:2199")
    loaded = ensemble(write, tmp_path, myid="2", servers=servers)
    assert (loaded.settings.client_port, loaded.settings.client_port_address) == (2199, "10.0.0.2")
    assert loaded.origins["client_port"].startswith("server.2 at ")
    with pytest.raises(ConfigError, match=r"server\.2 says client_port 2199 and .*:5 says 2200"):
        ensemble(write, tmp_path, "clientPort=2200\n", myid="2", servers=servers)
    assert ensemble(write, tmp_path, myid="1", servers=servers).settings.client_port == 2181


def test_only_a_secure_port_means_no_plain_port(write: Write) -> None:
    loaded = load(write("secureClientPort=2281\n"), environ={})
    assert loaded.settings.client_port == -1
    assert any("secureClientPort has no effect" in text for text in loaded.warnings)
    assert load(write("secureClientPort=-1\n"), environ={}).settings.client_port == 2181


def test_observers_and_groups_are_checked(write: Write, tmp_path: Path) -> None:
    for more, text in [
        ("weight.9=1\n", r"weight\.9 is given, but there is no server\.9"),
        ("group.1=1:2\n", "server 3 is in no group"),
        ("weight.1=2\n", r"zoo\.cfg:\d+: server 1 is in no group; with group or weight lines"),
        ("group.1=1:2\ngroup.2=2:3\n", "server 2 is in group 1 and in group 2"),
        ("group.1=1:2:3:4\n", r"group\.1 names server 4"),
        ("group.1=1,2\n", r"group\.1=1,2 is not accepted"),
        ("weight.1=heavy\n", r"weight\.1=heavy is not accepted"),
        ("weight.1=-1\n", r"weight\.1=-1 is not accepted; accepted is 0 or more"),
    ]:
        with pytest.raises(ConfigError, match=text):
            ensemble(write, tmp_path, more)
    settings = ensemble(write, tmp_path, "group.1=1:2\ngroup.2=3\nweight.3=0\n").settings
    assert settings.groups == {1: {1, 2}, 2: {3}}
    assert settings.weights == {3: 0}
    watchers = "".join(f"server.{n}=h{n}:1:2:observer\n" for n in (1, 2))
    with pytest.raises(ConfigError, match="all servers are observers"):
        ensemble(write, tmp_path, servers=watchers)
    with pytest.raises(ConfigError, match="observers need an ensemble"):
        ensemble(write, tmp_path, servers="server.1=a:1:2\nserver.2=b:1:2:observer\n")


def test_numbers_of_servers_that_tolerate_little_are_warned_of(write: Write, tmp_path: Path) -> None:
    two = "".join(THREE.splitlines(keepends=True)[:2])
    assert "two voting servers tolerate no failure" in ensemble(write, tmp_path, servers=two).warnings[0]
    four = THREE + "server.4=d:2888:3888\n"
    assert "4 voting servers tolerate no more failures than 3" in ensemble(write, tmp_path, servers=four).warnings[0]


def test_the_role_of_the_list_counts(write: Write, tmp_path: Path) -> None:
    loaded = ensemble(write, tmp_path, "peerType=observer\n")
    assert "server.1 is participant in the server list, peerType says observer" in loaded.warnings[0]


# ------------------------------------------------------------------------------------- dynamic file
def test_a_dynamic_file(write: Write, tmp_path: Path) -> None:
    (tmp_path / "myid").write_text("1")
    dynamic = write(THREE + "version=1a0\n", "zoo.cfg.dynamic")
    path = write(f"dataDir={tmp_path}\ndynamicConfigFile={dynamic}\n")
    loaded = load(path, environ={})
    assert len(loaded.settings.servers) == 3
    assert loaded.settings.config_version == 0x1A0
    assert loaded.origins["servers"] == f"{dynamic}:3"
    message = refused(write(f"dynamicConfigFile={dynamic}\nserver.1=a:1:2\n"), environ={})
    assert f"server.1 must stand in the dynamic file {dynamic}" in message
    path = write(f"dataDir={tmp_path}\ndynamicConfigFile={dynamic}\n")
    write(THREE + "tickTime=5\n", "zoo.cfg.dynamic")
    assert "tickTime does not belong into a dynamic file" in refused(path, environ={})
    write(THREE + "version=xyz\n", "zoo.cfg.dynamic")
    assert "version=xyz is not accepted" in refused(path, environ={})


# ------------------------------------------------------------------------------ rules between settings
@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"minSessionTimeout": "9", "maxSessionTimeout": "8"}, "larger than maxSessionTimeout"),
        ({"minSessionTimeout": "90000"}, "larger than maxSessionTimeout"),
        ({"clientPort": "5", "secureClientPort": "5"}, "both 5"),
        ({"localSessionsUpgradingEnabled": "true"}, "needs localSessionsEnabled"),
        ({"extendedTypesEnabled": "true", "myid": "255"}, "at most 254"),
        ({"dataDir": ""}, "dataDir is empty"),
    ],
)
def test_contradictions_are_refused(values: dict[str, str], text: str) -> None:
    assert text in refused(options=options(**values), environ={})
