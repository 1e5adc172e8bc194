"""The table of settings against ZooKeeper's own list of keys, and single values."""

import re
from typing import Any

import pytest

from corekit.config import SETTINGS, Settings, load
from corekit.config.known import NOT_HONOURED
from corekit.errors import ConfigError
from tests.unit.zookeeper_keys import ALL, IMAGE_VARIABLES

ACCEPTED = {
    "server.1": "localhost:2888:3888",
    "group.1": "1",
    "weight.1": "1",
    "metricsProvider.className": "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider",
}


def some_value(key: str) -> str:
    """A value of the key's own form that is not its default."""
    if key in ACCEPTED:
        return ACCEPTED[key]
    known = next((s for s in SETTINGS.values() if key in s.keys), None)
    if known is None:
        return "x"
    if isinstance(known.default, bool):
        return "false" if known.default else "true"
    for text in ("7", "observer", "SHA-256", "4567", "0.5", "x"):
        try:
            if known.parse(text) != known.default:
                return text
        except ValueError:
            pass
    raise AssertionError(f"no value for {key}")


@pytest.mark.parametrize("key", [key for key in ALL if not key.startswith(("group", "weight", "dynamic"))])
@pytest.mark.parametrize("prefix", ["", "zookeeper."])
def test_every_key_of_zookeeper_is_honoured_or_warned_of_with_a_reason(key: str, prefix: str) -> None:
    more = [("localSessionsEnabled", "true", "x")] if key == "localSessionsUpgradingEnabled" else []
    more += [("minSessionTimeout", "1", "x")] if key == "maxSessionTimeout" else []
    loaded = load(options=[*more, (prefix + key, some_value(key), "here")], environ={})
    known = next((s for s in SETTINGS.values() if key in s.keys), None)
    said = [text for text in loaded.warnings if text.startswith("here: ")]
    assert not any("unknown" in text for text in loaded.warnings)
    if known is None and key != "server.1":
        assert len(said) == 1
        assert re.search(r"has no effect: .{10}", said[0])
    elif known is not None and known.pending:
        assert said == [f"here: {prefix}{key} has no effect: {known.pending}"]
        assert getattr(loaded.settings, known.field) != known.default
    else:
        assert said == []
        if known is not None:
            assert getattr(loaded.settings, known.field) != known.default
            assert loaded.origins[known.field] == "here"


def test_every_variable_of_the_official_image_is_known() -> None:
    assert {known.zoo_env for known in SETTINGS.values() if known.zoo_env} == set(IMAGE_VARIABLES)


def test_no_key_is_both_honoured_and_not() -> None:
    assert [key for known in SETTINGS.values() for key in known.keys if key in NOT_HONOURED] == []


def test_no_two_settings_share_a_key() -> None:
    keys = [key for known in SETTINGS.values() for key in {*known.keys, known.field}]
    assert sorted(set(keys)) == sorted(keys)


def test_every_reason_is_needed() -> None:
    """An entry that no key of ZooKeeper meets is a leftover."""
    leftovers = [
        known
        for known in NOT_HONOURED
        if known not in ALL and not (known.endswith(".") and any(key.startswith(known) for key in ALL))
    ]
    assert leftovers == []


def test_every_default_passes_its_own_parser() -> None:
    for known in SETTINGS.values():
        if known.default in ("", (), frozenset(), -1):
            continue
        text = str(known.default).lower() if isinstance(known.default, bool) else str(known.default)
        if known.field == "autopurge_interval_ms":
            text += "ms"
        assert known.parse(text) == known.default, known.field


BAD = [
    ("tickTime", "0", "an integer of 1 or more"),
    ("tickTime", "1_000", "an integer"),
    ("tickTime", "٣", "an integer"),
    ("tickTime", "2 s", "an integer"),
    ("tickTime", "", "an integer"),
    ("clientPort", "65536", "from 0 to 65535, or -1"),
    ("clientPort", "-2", "from 0 to 65535, or -1"),
    ("reconfigEnabled", "yes", "true or false"),
    ("reconfigEnabled", "1", "true or false"),
    ("skipACL", "on", "yes, no, true or false"),
    ("autopurge.purgeInterval", "1w", "hours"),
    ("autopurge.purgeInterval", "-1", "hours"),
    ("freeSpaceWatermark", "10x", "bytes"),
    ("snapshotSizeFactor", "1/3", "a decimal number"),
    ("peerType", "leader", "participant or observer"),
    ("log.format", "xml", "human or json"),
    ("metricsProvider.className", "org.example.Mine", "PrometheusMetricsProvider"),
    ("DigestAuthenticationProvider.digestAlg", "md5", "SHA1"),
]


@pytest.mark.parametrize(("key", "value", "accepted"), BAD)
def test_a_malformed_value_names_key_value_place_and_what_is_accepted(key: str, value: str, accepted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(options=[(key, value, "zoo.cfg:7")], environ={})
    message = str(caught.value)
    assert message.startswith(f"zoo.cfg:7: {key}={value} is not accepted; accepted is ")
    assert accepted in message
    assert caught.value.exit_code == 2


GOOD: list[tuple[str, str, str, Any]] = [
    ("clientPort", "0", "client_port", 0),
    ("clientPortAddress", "[::1]", "client_port_address", "::1"),
    ("jute.maxbuffer", "0x200000", "jute_max_buffer", 0x200000),
    ("client_port", "2182", "client_port", 2182),
    ("reconfigEnabled", "TRUE", "reconfig_enabled", True),
    ("skipACL", "yes", "skip_acl", True),
    ("leaderServes", "no", "leader_serves", False),
    ("commitLogCount", "10", "commit_log_count", 500),
    ("autopurge.snapRetainCount", "1", "autopurge_snap_retain_count", 3),
    ("autopurge.purgeInterval", "0", "autopurge_interval_ms", 0),
    ("autopurge.purgeInterval", "2", "autopurge_interval_ms", 7_200_000),
    ("autopurge.purgeInterval", "90s", "autopurge_interval_ms", 90_000),
    ("autopurge_interval_ms", "1500", "autopurge_interval_ms", 1500),
    ("freeSpaceWatermark", "2g", "free_space_watermark_bytes", 2 << 30),
    ("freeSpaceWatermark", "5 MB", "free_space_watermark_bytes", 5 << 20),
    ("enforce.auth.schemes", "digest, x509,", "enforce_auth_schemes", ("digest", "x509")),
    ("DigestAuthenticationProvider.digestAlg", "sha-256", "digest_auth_alg", "SHA-256"),
    ("metricsProvider.className", "PrometheusMetricsProvider", "metrics_http_port", 7000),
]


@pytest.mark.parametrize(("key", "value", "field", "expected"), GOOD)
def test_values_are_understood(key: str, value: str, field: str, expected: object) -> None:
    assert getattr(load(options=[(key, value, "x")], environ={}).settings, field) == expected


def test_a_secret_is_shown_nowhere() -> None:
    settings = load(options=[("DigestAuthenticationProvider.superDigest", "super:abc123", "x")], environ={}).settings
    assert settings.super_digest == "super:abc123"
    assert "abc123" not in repr(settings)


def test_what_follows_from_other_settings() -> None:
    settings = Settings(tick_time_ms=100, data_dir="d", jute_max_buffer=5000)
    assert (settings.min_session_timeout_ms, settings.max_session_timeout_ms) == (200, 2000)
    assert settings.data_log_dir == "d"
    assert settings.jute_max_buffer_extra_size == 5000


def test_the_whitelist_of_four_letter_words_follows_zookeeper() -> None:
    assert Settings().four_letter_words == {"srvr"}
    assert Settings(read_only_mode_enabled=True).four_letter_words == {"srvr", "isro"}
    some = load(options=[("4lw.commands.whitelist", "ruok, mntr,", "x")], environ={}).settings
    assert some.four_letter_words == {"srvr", "ruok", "mntr"}
    assert not some.four_letter_enabled("dump")
    every = load(options=[("4lw.commands.whitelist", "*", "x")], environ={}).settings
    assert every.four_letter_enabled("dump")


def test_requiring_sasl_means_enforcing_a_scheme_that_nobody_can_prove() -> None:
    settings = load(options=[("sessionRequireClientSASLAuth", "true", "x")], environ={}).settings
    assert settings.enforce_auth_enabled
    assert settings.enforce_auth_schemes == ("sasl",)
