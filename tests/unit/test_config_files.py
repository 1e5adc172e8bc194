"""Java properties and TOML, as text."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corekit.config.files import parse_properties, parse_toml, read_file
from corekit.errors import ConfigError


def pairs(content: str) -> list[tuple[str, str]]:
    return [(entry.key, entry.text) for entry in parse_properties(content, "zoo.cfg")]


# Each case was checked against java.util.Properties.load (values trimmed, as QuorumPeerConfig does).
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a=b", [("a", "b")]),
        ("a = b ", [("a", "b")]),
        ("a:b", [("a", "b")]),
        ("a b", [("a", "b")]),
        ("a \t b c", [("a", "b c")]),
        ("a : = b", [("a", "= b")]),
        ("a==b", [("a", "=b")]),
        ("a", [("a", "")]),
        ("a=", [("a", "")]),
        ("=b", [("", "b")]),
        ("# c\n! d\n  # e\na=b", [("a", "b")]),
        ("a=b # c", [("a", "b # c")]),
        ("a=b\\\n   c", [("a", "bc")]),
        ("a=b\\\n   # c", [("a", "b# c")]),
        ("a=b\\\\\nc=d", [("a", "b\\"), ("c", "d")]),
        ("a=b\\", [("a", "b")]),
        ("a=b\\\n\nc=d", [("a", "b"), ("c", "d")]),
        ("a\\=b=c", [("a=b", "c")]),
        ("a\\ b=c", [("a b", "c")]),
        ("a=C:\\\\data", [("a", "C:\\data")]),
        ("a=C:\\data", [("a", "C:data")]),
        ("a=\\u0041\\u00e9", [("a", "Aé")]),
        ("a=x\\ty", [("a", "x\ty")]),
        ("a=b\r\nc=d\re=f", [("a", "b"), ("c", "d"), ("e", "f")]),
        ("\ta=b\n\n\f\n", [("a", "b")]),
        ("", []),
        ("\\\na=b", [("a", "b")]),
        ("\\\n# c\na=b", [("a", "b")]),
        ("\\\n\na=b", [("a", "b")]),
    ],
)
def test_properties_are_read_as_java_reads_them(content: str, expected: list[tuple[str, str]]) -> None:
    assert pairs(content) == expected


def pairs_of(path: Path) -> list[tuple[str, str]]:
    return [(entry.key, entry.text) for entry in read_file(str(path))]


def test_an_entry_knows_the_line_it_begins_on() -> None:
    content = "# one\na=1\n\nb=2,\\\n  3\nc=4"
    assert [entry.origin for entry in parse_properties(content, "x.cfg")] == ["x.cfg:2", "x.cfg:4", "x.cfg:6"]


def test_a_broken_unicode_escape_names_the_line() -> None:
    with pytest.raises(ConfigError, match=r"^x\.cfg:2: .*hexadecimal"):
        parse_properties("a=b\nc=\\u00g1", "x.cfg")


def escape(text: str) -> str:
    return "".join(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else "" for char in text)


@given(st.lists(st.tuples(st.text("abc .=:#!\\é\t", min_size=1), st.text("abc =:#!\\é\n"))))
def test_whatever_is_escaped_comes_back(entries: list[tuple[str, str]]) -> None:
    content = "\n".join(f"{escape(key)}={escape(value)}" for key, value in entries)
    assert pairs(content) == [(key, value.strip()) for key, value in entries]


@given(st.text())
def test_any_text_is_read_or_refused(content: str) -> None:
    try:
        entries = parse_properties(content, "x")
    except ConfigError:
        return
    assert len(entries) <= len(content)


def test_toml_tables_become_dotted_keys() -> None:
    content = """
    tickTime = 500
    skipACL = true
    "4lw.commands.whitelist" = ["ruok", "mntr"]
    snapshotSizeFactor = 0.5
    [autopurge]
    purgeInterval = "30m"
    [server]
    1 = "a:2888:3888"
    [plugin.sqlite]
    cache = 3
    """
    entries = parse_toml(content, "c.toml")
    assert [(entry.key, entry.text) for entry in entries] == [
        ("tickTime", "500"),
        ("skipACL", "true"),
        ("4lw.commands.whitelist", "ruok,mntr"),
        ("snapshotSizeFactor", "0.5"),
        ("autopurge.purgeInterval", "30m"),
        ("server.1", "a:2888:3888"),
        ("plugin.sqlite.cache", "3"),
    ]
    assert entries[4].origin == "c.toml: autopurge.purgeInterval"


@pytest.mark.parametrize(
    ("content", "text"),
    [("a = ", "c.toml"), ("[[a]]\nb=1", "c.toml: a: a list"), ("a = 2020-01-01", "c.toml: a: a date")],
)
def test_toml_that_is_no_setting_is_refused(content: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_toml(content, "c.toml")
    assert str(caught.value).startswith(text)


def test_files_that_cannot_be_read_are_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_file(str(tmp_path / "zoo.cfg"))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_file(str(tmp_path))
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"a='b'\nc='\xff'\n")
    with pytest.raises(ConfigError, match=r"bad\.toml:2: not UTF-8"):
        read_file(str(bad))


def test_a_properties_file_that_is_not_utf8_is_read_as_java_reads_it(tmp_path) -> None:
    path = tmp_path / "zoo.cfg"
    path.write_bytes(b"# f\xfcr uns\ndataDir=/data/f\xfcr\n")
    assert pairs_of(path) == [("dataDir", "/data/für")]


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path) -> None:
    path = tmp_path / "zoo.cfg"
    path.write_bytes(b"\xef\xbb\xbftickTime=7\n")
    assert read_file(str(path))[0].key == "tickTime"
