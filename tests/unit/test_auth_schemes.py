"""The schemes of the `digest` plugin: the conformance suite, and the values that Apache ZooKeeper gives."""

from __future__ import annotations

import ipaddress
import logging
import random
from typing import Any

import corekit_acl_digest
import pytest
from corekit_acl_digest.digest import DigestScheme, generate_digest, hash_name
from corekit_acl_digest.ip import IpScheme, parse_address
from corekit_acl_digest.world import WorldScheme
from hypothesis import given
from hypothesis import strategies as st

from corekit.api import AuthScheme, Peer
from corekit.config import Settings
from corekit.errors import ConfigError
from corekit.hooks import Context
from corekit.plugins.wiring import SystemClock
from corekit.testing.auth import LOCAL, LOCAL_V6, UNIX, AuthSuite

# From Apache ZooKeeper 3.8.0: java ...DigestAuthenticationProvider super:secret
SUPER_SECRET = "super:lK75jTNcA+U9vtVEw5vB51mj/w4="


class TestDigest(AuthSuite):
    proofs = (
        (b"super:secret", LOCAL, ("digest", SUPER_SECRET)),
        (b"super:secret", UNIX, ("digest", SUPER_SECRET)),
        ("ü:p:w".encode(), LOCAL, ("digest", "ü:/FlbDnRBK9LIrt4VfzVS1ncbLYQ=")),
        (b"nopw", LOCAL, ("digest", "nopw:Ab2Q4PNGLJWyoLkOcQOUmjgY27U=")),
        (b":x", LOCAL, ("digest", ":57b19mLA2vMhI/edHul/TytWqWE=")),
        (b"u:", LOCAL, ("digest", "u:IX23jg4I7W2/R//KoV8VL1UfuBM=")),
    )
    connects = ((LOCAL, ()),)
    valid_ids = ("a:b", ":b", "a:b:", "a:b::", SUPER_SECRET)
    invalid_ids = ("", "a", "a:", ":", "::", "a:b:c", "a::b", ":::b")
    matching = ((SUPER_SECRET, SUPER_SECRET),)
    not_matching = ((SUPER_SECRET, SUPER_SECRET.lower()), (SUPER_SECRET, "super:secret"), ("a:b", "a:b:"))

    def scheme(self) -> AuthScheme:
        return DigestScheme()


class TestDigestWithSuperUser(AuthSuite):
    proofs = (
        (b"super:secret", LOCAL, ("super", "")),
        (b"super:secret", LOCAL, ("digest", SUPER_SECRET)),
        (b"super:other", LOCAL, ("digest", generate_digest("super:other"))),
    )

    def scheme(self) -> AuthScheme:
        return DigestScheme(super_digest=SUPER_SECRET)

    def test_only_the_right_password_is_super(self) -> None:
        scheme = self.scheme()
        for data in (b"super:other", b"super:", b"super", SUPER_SECRET.encode(), b"", b"other:secret"):
            assert ("super", "") not in (scheme.authenticate(data, LOCAL) or ())


class TestIp(AuthSuite):
    proofs = ((b"", LOCAL, ("ip", "127.0.0.1")), (b"8.8.8.8", LOCAL, ("ip", "127.0.0.1")))
    refusals = ((b"127.0.0.1", UNIX),)
    connects = (
        (LOCAL, (("ip", "127.0.0.1"),)),
        (LOCAL_V6, (("ip", "0:0:0:0:0:0:0:1"),)),
        (Peer("::ffff:192.0.2.7"), (("ip", "192.0.2.7"),)),
        (Peer("fe80::1%eth0"), (("ip", "fe80:0:0:0:0:0:0:1%eth0"),)),
        (UNIX, ()),
    )
    valid_ids = (
        *("1.2.3.4", "+1.2.3.4", "-0.2.3.4", "01.2.3.4", "1.2.3.4/0", "1.2.3.4/32", "1.2.3.4/+8"),
        *("::1", "::", "1::", "2001:db8::/32", "::/0", "::1/128", "0:0:0:0:0:0:0:1", "2001:DB8::a:0b"),
    )
    invalid_ids = (
        *(
            "",
            "1.2.3",
            "256.1.1.1",
            "1.2.3.4/",
            "1.2.3.4/33",
            "1.2.3.4/-1",
            "1.2.3.4/8/9",
            " 1.2.3.4",
            "1.2.3.4 ",
            "1.2.3.4.",
        ),
        *(
            ":",
            ":::",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8:9",
            "1:2:3:4:5:6:7:8::",
            "1::2::3",
            "::12345",
            "::g",
            "::1/129",
        ),
        *(
            "::ffff:1.2.3.4",
            "fe80::1%eth0",
            "localhost",
            "1.2.3.4/8888888888888888888888888888888888888888888888888888888888888888",
        ),
    )
    matching = (
        *(("10.1.2.3", "10.0.0.0/8"), ("10.1.2.5", "10.1.2.4/31"), ("10.1.2.3", "0.0.0.0/0"), ("10.1.2.3", "10.1.2.3")),
        *(("10.1.2.3", "10.9.9.9/8"), ("0:0:0:0:0:0:0:1", "::1"), ("2001:db8:0:0:0:0:0:7", "2001:db8::/32")),
        ("2001:db8:0:0:0:0:0:7", "::/0"),
    )
    not_matching = (
        *(
            ("10.1.2.3", "10.1.2.4/31"),
            ("10.1.2.3", "::/0"),
            ("0:0:0:0:0:0:0:1", "0.0.0.0/0"),
            ("10.1.2.3", "10.1.2.3/33"),
        ),
        *(("2001:db9:0:0:0:0:0:7", "2001:db8::/32"), ("fe80:0:0:0:0:0:0:1%eth0", "fe80::1"), ("nonsense", "0.0.0.0/0")),
    )

    def scheme(self) -> AuthScheme:
        return IpScheme()


class TestWorld(AuthSuite):
    refusals = ((b"", LOCAL), (b"anyone", LOCAL))
    connects = ((LOCAL, ()),)
    valid_ids = ("anyone",)
    invalid_ids = ("", "Anyone", "everybody")
    matching = (("anyone", "anyone"),)
    not_matching = (("anyone", "nobody"),)

    def scheme(self) -> AuthScheme:
        return WorldScheme()


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("SHA1", SUPER_SECRET),
        ("SHA-1", SUPER_SECRET),
        ("SHA-256", "super:WTA5ucCHTdJq645xIMibj8HviTPeB5mMuJ4/+v1dIEw="),
        ("SHA3-256", "super:WC0fcBtN15KqFfwpcvg0TG3tZUPFtDZkMpN7SZ6bt4g="),
        ("SHA-512/256", "super:KBy0TIF51hD+Dr4wcFk0avm0bSypEbyLoGAgI9Pc2WA="),
    ],
)
def test_other_hashes_give_what_java_gives(algorithm: str, expected: str) -> None:
    assert generate_digest("super:secret", algorithm) == expected
    assert DigestScheme(algorithm=algorithm).authenticate(b"super:secret", LOCAL) == (("digest", expected),)


@pytest.mark.parametrize("algorithm", ["", "SHA-7", "shake_128", "../sha1"])
def test_an_unknown_hash_is_a_configuration_error(algorithm: str) -> None:
    with pytest.raises(ConfigError, match="no such hash"):
        hash_name(algorithm)


@given(st.ip_addresses())
def test_addresses_are_read_as_the_standard_library_reads_them(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    packed = address.packed
    assert parse_address(address.exploded) == packed
    if "." not in address.compressed or address.version == 4:
        assert parse_address(address.compressed) == packed


@given(st.ip_addresses(v=6), st.ip_addresses(v=6), st.integers(0, 128))
def test_networks_match_as_the_standard_library_says(
    one: ipaddress.IPv6Address, other: ipaddress.IPv6Address, bits: int
) -> None:
    network = ipaddress.ip_network((other.packed, bits), strict=False)
    assert IpScheme().matches(one.exploded, f"{other.exploded}/{bits}") == (one in network)


def wired(**settings: Any) -> dict[str, AuthScheme]:
    context = Context(
        name="digest",
        settings=Settings(**settings),
        options={},
        data_dir="unused",
        logger=logging.getLogger("test"),
        clock=SystemClock(),
        random=random.Random(0),
    )
    return {scheme.name: scheme for scheme in corekit_acl_digest.register_auth_schemes(context)}


def test_the_plugin_follows_the_settings() -> None:
    assert set(wired()) == {"digest", "ip", "world"}
    assert set(wired(digest_auth_enabled=False)) == {"ip", "world"}
    proved = wired(super_digest=SUPER_SECRET)["digest"].authenticate(b"super:secret", LOCAL)
    assert proved == (("super", ""), ("digest", SUPER_SECRET))
    assert wired()["digest"].authenticate(b"super:secret", LOCAL) == (("digest", SUPER_SECRET),)
    other = wired(digest_auth_alg="SHA-256")["digest"].authenticate(b"super:secret", LOCAL)
    assert other == (("digest", "super:WTA5ucCHTdJq645xIMibj8HviTPeB5mMuJ4/+v1dIEw="),)
