"""`python -m corekit_token`: make keys, mint tokens, look at tokens.

Exit codes: 0 done, 1 the token proves nothing, 2 a mistake in what was asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Sequence

from corekit.errors import UserError
from corekit_token.jwt import TokenError, check, sign
from corekit_token.keys import new_private, read_private, read_public, write, write_public
from corekit_token.scheme import SUBJECT

_EXAMPLES = """examples:
  python -m corekit_token new-key 2026-01 --private 2026-01.json --keys keys.json
  corekit serve --plugins digest,token -s plugin.token.keys=keys.json
  python -m corekit_token mint alice --key 2026-01.json --for 8h
  python -m corekit_token check --keys keys.json < token

to change keys: make a new one (servers see the file change), mint with it, and when the last token of the old key has
expired: python -m corekit_token retire 2026-01 --keys keys.json
"""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _new_key(given: argparse.Namespace) -> int:
    if os.path.exists(given.private):
        raise UserError(f"{given.private} exists already; a private key is not overwritten")
    keys = read_public(given.keys) if os.path.exists(given.keys) else {}
    if given.name in keys:
        raise UserError(f"{given.keys} has a key {given.name} already; names of keys are used once")
    write(given.private, new_private(given.name), 0o600)
    kid, key = read_private(given.private)
    write_public(given.keys, {**keys, kid: key.public_key()})
    print(f"private key in {given.private}, its public part added to {given.keys}", file=sys.stderr)
    return 0


def _retire(given: argparse.Namespace) -> int:
    keys = read_public(given.keys)
    if given.name not in keys:
        raise UserError(f"{given.keys} has no key {given.name}; it has {', '.join(keys) or 'none'}")
    write_public(given.keys, {kid: key for kid, key in keys.items() if kid != given.name})
    print(f"tokens of {given.name} are refused from now on", file=sys.stderr)
    return 0


def _mint(given: argparse.Namespace) -> int:
    if SUBJECT.fullmatch(given.subject) is None:
        raise UserError(f"{given.subject!r} cannot stand in an ACL; accepted are letters, digits and ._@/+=-")
    kid, key = read_private(given.key)
    now = int(time.time())
    claims: dict[str, object] = {"sub": given.subject, "iat": now, "exp": now + given.seconds}
    if given.audience:
        claims["aud"] = given.audience
    print(sign(key, kid, claims))
    return 0


def _check(given: argparse.Namespace) -> int:
    keys = read_public(given.keys)
    token = sys.stdin.buffer.read(1024 * 1024)
    try:
        claims = check(token, keys, time.time_ns() // 1_000_000, audience=given.audience)
    except TokenError as error:
        print(f"the token proves nothing: {error}", file=sys.stderr)
        return 1
    print(json.dumps(claims, indent=2))
    return 0


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write for example 90s, 15m, 8h or 30d")
    return int(found[1]) * _UNITS[found[2]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m corekit_token",
        description="Keys and tokens for the authentication scheme `token` of corekit.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    one = commands.add_parser("new-key", help="make a key, and add its public part to the servers' file")
    one.add_argument("name", help="of the key, such as a date; goes into every token")
    one.add_argument("--private", required=True, metavar="FILE", help="where the private key goes; keep it secret")
    one.add_argument("--keys", required=True, metavar="FILE", help="the servers' public keys")
    one.set_defaults(run=_new_key)
    one = commands.add_parser("retire", help="take a key out of the servers' file")
    one.add_argument("name")
    one.add_argument("--keys", required=True, metavar="FILE")
    one.set_defaults(run=_retire)
    one = commands.add_parser("mint", help="print a token")
    one.add_argument("subject", help="whom it is for; what stands in ACLs as token:SUBJECT")
    one.add_argument("--key", required=True, metavar="FILE", help="a private key")
    one.add_argument("--for", dest="seconds", type=_seconds, default="1h", metavar="TIME", help="90s, 15m, 8h (1h)")
    one.add_argument("--audience", metavar="NAME", help="for servers with plugin.token.audience")
    one.set_defaults(run=_mint)
    one = commands.add_parser("check", help="say what the token on standard input proves, or why nothing")
    one.add_argument("--keys", required=True, metavar="FILE")
    one.add_argument("--audience", metavar="NAME")
    one.set_defaults(run=_check)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; the exit code."""
    given = _parser().parse_args(arguments)
    try:
        code: int = given.run(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return code


def run() -> None:
    """The command."""
    sys.exit(main())


if __name__ == "__main__":
    run()
