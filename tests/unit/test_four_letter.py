"""The four-letter words, letter by letter. The expected texts were taken from Apache ZooKeeper 3.8.0 with a socket."""

from __future__ import annotations

import pytest

from corekit.codec import four_letter
from corekit.codec.four_letter import (
    WORDS,
    ConnectionRow,
    ServerView,
    SessionsDump,
    extra_bytes,
    is_word,
    run_word,
)
from corekit.codec.java_text import java_date, java_double, socket_text
from tests.support.server_view import FakeView

S0, S1 = 0x10000164A600000, 0x10000164A600001
MINUS = -(1 << 63) + 0x1F  # a session id of a server with a high number is negative in Java

ROWS = [
    ConnectionRow("127.0.0.1", 57208, interest_ops=0, received=1, expires_ms=1795471801000),
    ConnectionRow(
        *("127.0.0.1", 57190, 1, 0, 3, 3, S1, "GETD", 1795471781428, 10000, 2, 7, 1490047, 1, 0, 1, 1),
        expires_ms=1795471801000,
    ),
    ConnectionRow(
        *("127.0.0.1", 57180, 1, 0, 0, 0, S0, "NA", 1795471781418, 10000, -1, -1, 0, 0, 0, 0, 0),
        expires_ms=1795471801000,
    ),
]


def ask(word: bytes, view: ServerView, extra: bytes = b"") -> str:
    assert is_word(word)
    return run_word(word, extra, view).decode()


def test_cons() -> None:
    assert ask(b"cons", FakeView(rows=ROWS)) == (
        " /127.0.0.1:57208[0](queued=0,recved=1,sent=0)\n"
        " /127.0.0.1:57190[1](queued=0,recved=3,sent=3,sid=0x10000164a600001,lop=GETD,est=1795471781428,to=10000,"
        "lcxid=0x2,lzxid=0x7,lresp=1490047,llat=1,minlat=0,avglat=1,maxlat=1)\n"
        " /127.0.0.1:57180[1](queued=0,recved=0,sent=0,sid=0x10000164a600000,lop=NA,est=1795471781418,to=10000,"
        "lzxid=0xffffffffffffffff,lresp=0,llat=0,minlat=0,avglat=0,maxlat=0)\n"
        "\n"
    )


def test_dump_of_a_server_that_expires_sessions() -> None:
    view = FakeView(
        rows=ROWS,
        session_dump=SessionsDump(buckets=((1795471793000, (S1, S0)),)),
        ephemeral={S0: [b"/a/e2", b"/a/e"], S1: [b"/a/f"]},
    )
    assert ask(b"dump", view) == (
        "SessionTracker dump:\n"
        "Session Sets (1)/(2):\n"
        "2 expire at Mon Nov 23 22:09:53 UTC 2026:\n"
        "\t0x10000164a600001\n"
        "\t0x10000164a600000\n"
        "ephemeral nodes dump:\n"
        "Sessions with Ephemerals (2):\n"
        "0x10000164a600000:\n"
        "\t/a/e2\n"
        "\t/a/e\n"
        "0x10000164a600001:\n"
        "\t/a/f\n"
        "Connections dump:\n"
        "Connections Sets (1)/(3):\n"
        "3 expire at Mon Nov 23 22:10:01 UTC 2026:\n"
        "\tip: /127.0.0.1:57208 sessionId: 0x0\n"
        "\tip: /127.0.0.1:57190 sessionId: 0x10000164a600001\n"
        "\tip: /127.0.0.1:57180 sessionId: 0x10000164a600000\n"
    )


def test_dump_of_a_follower_lists_timeouts_by_session() -> None:
    view = FakeView(session_dump=SessionsDump(timeouts=((S1, 4000), (S0, 10000), (MINUS, 5000))))
    assert ask(b"dump", view).startswith(
        "SessionTracker dump:\n"
        "Global Sessions(3):\n"
        "0x800000000000001f\t5000ms\n"
        "0x10000164a600000\t10000ms\n"
        "0x10000164a600001\t4000ms\n"
        "ephemeral nodes dump:\n"
        "Sessions with Ephemerals (0):\n"
    )


def test_dump_with_local_sessions() -> None:
    leader = FakeView(session_dump=SessionsDump(buckets=(), local=((0, (S0,)),)))
    assert ask(b"dump", leader).startswith(
        "SessionTracker dump:\n"
        "Local Session Sets (1)/(1):\n"
        "1 expire at Thu Jan 01 00:00:00 UTC 1970:\n"
        "\t0x10000164a600000\n"
        "Global Session Sets (0)/(0):\n"
        "ephemeral nodes dump:\n"
    )
    follower = FakeView(session_dump=SessionsDump(local=()))
    assert "Local Session Sets (0)/(0):\nGlobal Sessions(0):\n" in ask(b"dump", follower)


SUMMARY = (
    "Latency min/avg/max: 0/1.2667/4\n"
    "Received: 25\n"
    "Sent: 24\n"
    "Connections: 3\n"
    "Outstanding: 0\n"
    "Zxid: 0x7\n"
    "Mode: standalone\n"
    "Node count: 10\n"
)


def test_srvr_and_stat() -> None:
    view = FakeView(rows=ROWS)
    version = f"Zookeeper version: {view.version}\n"
    assert ask(b"srvr", view) == version + SUMMARY
    assert ask(b"stat", view) == (
        version + "Clients:\n"
        " /127.0.0.1:57208[0](queued=0,recved=1,sent=0)\n"
        " /127.0.0.1:57190[1](queued=0,recved=3,sent=3)\n"
        " /127.0.0.1:57180[1](queued=0,recved=0,sent=0)\n"
        "\n" + SUMMARY
    )


def test_srvr_of_a_leader_and_of_a_read_only_server() -> None:
    leader = FakeView(mode="leader", proposal_sizes=(48, 36, 1048))
    assert ask(b"srvr", leader).endswith("Mode: leader\nNode count: 10\nProposal sizes last/min/max: 48/36/1048\n")
    alone = ask(b"srvr", FakeView(mode="read-only", last_zxid=(5 << 32) | 1))
    assert alone.splitlines()[1] == "READ-ONLY mode; serving only read-only clients"
    assert "Zxid: 0x500000001\n" in alone


def test_watches() -> None:
    view = FakeView(watched=[(S1, [b"/a/b"]), (S0, [b"/a/b", b"/a/e", b"/nope"])])
    assert ask(b"wchs", view) == "2 connections watching 3 paths\nTotal watches:4\n"
    assert ask(b"wchc", view) == "0x10000164a600001\n\t/a/b\n0x10000164a600000\n\t/a/b\n\t/a/e\n\t/nope\n\n"
    assert ask(b"wchp", view) == (
        "/a/b\n\t0x10000164a600001\n\t0x10000164a600000\n/a/e\n\t0x10000164a600000\n/nope\n\t0x10000164a600000\n\n"
    )
    assert ask(b"wchc", FakeView()) == ask(b"wchp", FakeView()) == "\n"


def test_conf() -> None:
    settings: dict[str, int | str] = {"clientPort": 2181, "dataDir": "/data/version-2"}
    assert ask(b"conf", FakeView(settings=settings)) == "clientPort=2181\ndataDir=/data/version-2\n"
    member = FakeView(settings=settings, members="server.1=a:2888:3888:participant\nversion=0")
    assert ask(b"conf", member).endswith("\nmembership: \nserver.1=a:2888:3888:participant\nversion=0")


def test_monitor_keeps_the_decimal_point_of_doubles() -> None:
    values: list[tuple[str, int | float | str]] = [("avg_latency", 0.0), ("packets_sent", 29), ("avg_x", 1e7)]
    assert ask(b"mntr", FakeView(values=values)) == (
        "zk_version\t3.9.5-test, built on 2026-01-01 00:00 UTC\n"
        "zk_server_state\tstandalone\n"
        "zk_avg_latency\t0.0\n"
        "zk_packets_sent\t29\n"
        "zk_avg_x\t1.0E7\n"
    )


def test_small_words() -> None:
    view = FakeView(facts=[("zookeeper.version", "v"), ("host.name", "h")])
    assert ask(b"ruok", view) == "imok"
    assert ask(b"isro", view) == "rw"
    assert ask(b"isro", FakeView(mode="read-only")) == "ro"
    assert ask(b"dirs", view) == "datadir_size: 67109337\nlogdir_size: 457\n"
    assert ask(b"envi", view) == "Environment:\nzookeeper.version=v\nhost.name=h\n"
    digests = [(0x100000080, 7, 2), (0x100000100, (1 << 64) - 1, 2)]
    assert ask(b"hash", FakeView(digest_log=digests)) == "100000080: 7\n100000100: -1\n"


def test_words_that_change_something() -> None:
    view = FakeView()
    assert ask(b"srst", view) == "Server stats reset.\n"
    assert ask(b"crst", view) == "Connection stats reset.\n"
    assert (view.resets, view.connection_resets) == (1, 1)
    assert ask(b"gtmk", view) == "306"
    assert extra_bytes(b"stmk") == 8
    assert ask(b"stmk", view, (300).to_bytes(8, "big")) == "300"
    assert ask(b"stmk", view, (-1).to_bytes(8, "big", signed=True)) == "-1"
    assert ask(b"stmk", view, b"1234567") == ""
    assert ask(b"gtmk", view) == "-1"


def test_not_serving() -> None:
    view = FakeView(serving=False)
    text = "This ZooKeeper instance is not currently serving requests"
    for word in sorted(WORDS - {b"stmk", b"\xff\xf4\xff\xfd"}):
        answer = ask(word, view)
        expected = {
            b"hash": text,
            b"ruok": "imok",
            b"isro": "null",
            b"gtmk": "306",
            b"envi": "Environment:\n",
        }
        assert answer == expected.get(word, text + "\n")
    assert ask(b"stmk", view, bytes(8)) == "0"
    assert (view.resets, view.connection_resets) == (0, 0)


def test_whitelist_rule() -> None:
    view = FakeView(whitelist=frozenset({"srvr"}))
    for word in sorted(WORDS - {b"srvr"}):
        name = "telnet close" if word[0] == 0xFF else word.decode()
        assert ask(word, view, bytes(8)) == f"{name} is not executed because it is not in the whitelist.\n"
    assert ask(b"srvr", view).endswith(SUMMARY)
    assert view.resets == 0
    assert view.trace_mask == 306


def test_what_is_and_what_is_not_a_word() -> None:
    assert len(WORDS) == 19
    for data in (b"\x00\x00\x00\x2d", b"GET ", b"RUOK", b"ruok\n", b"ruo", b"", b"\x16\x03\x01\x02"):
        assert not is_word(data)
    assert run_word(b"\xff\xf4\xff\xfd", b"", FakeView()) == b""


def test_output_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(four_letter, "FOUR_LETTER_BYTES_MAX", 1000)
    answer = ask(b"wchp", FakeView(watched=[(S0, [b"/n%d" % n for n in range(1000)])]))
    assert answer.endswith("\n... cut: the answer is longer than 1000 bytes\n")
    assert len(answer) < 1100
    assert answer.startswith("/n0\n\t0x10000164a600000\n/n1\n")


def test_paths_that_are_not_utf8_do_not_break_the_answer() -> None:
    assert ask(b"wchc", FakeView(watched=[(S0, [b"/\xff", "/ü".encode()])])) == "0x10000164a600000\n\t/\ufffd\n\t/ü\n\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((0.0, "0.0"), (1e7, "1.0E7"), (12345678.9, "1.23456789E7"), (1e-3, "0.001"), (9.99e-4, "9.99E-4")),
        *((123456789012345.0, "1.23456789012345E14"), (-2.5e-7, "-2.5E-7"), (9999999.0, "9999999.0")),
        *((1.7976931348623157e308, "1.7976931348623157E308"), (float("inf"), "Infinity"), (float("nan"), "NaN")),
    ],
)
def test_doubles_as_java_writes_them(value: float, text: str) -> None:
    assert java_double(value) == text


def test_addresses_and_dates_as_java_writes_them() -> None:
    assert java_date(1000) == "Thu Jan 01 00:00:01 UTC 1970"
    assert socket_text("::1", 4000) == "[0:0:0:0:0:0:0:1]:4000"
    assert socket_text("::ffff:1.2.3.4", 4000) == "1.2.3.4:4000"
    assert socket_text("fe80::1%1", 4000) == "[fe80:0:0:0:0:0:0:1%1]:4000"
    assert socket_text("unix", 0) == "unix"
