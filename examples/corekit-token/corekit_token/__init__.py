"""Tokens for corekit: clients prove who they are with a signed token that expires.

Settings
    plugin.token.keys = FILE            the public keys, a JWK set as `python -m corekit_token new-key` writes it
    plugin.token.skew-seconds = 60      how far clocks may be apart
    plugin.token.audience = NAME        tokens must be for NAME (their claim `aud`); unset: not looked at

The file of keys is looked at again while the server runs, so keys are added and retired without a restart.
"""

from __future__ import annotations

from collections.abc import Sequence

from corekit.api import AuthScheme
from corekit.errors import ConfigError
from corekit.hooks import Context, Service, hookimpl
from corekit_token.keys import KeyFile
from corekit_token.scheme import TokenScheme

kind = "auth"
api_version = 1
suite = "corekit_token.conformance"

_SKEW_SECONDS_MAX = 3600
_OPTIONS = ("keys", "skew-seconds", "audience")

_files: list[KeyFile] = []


@hookimpl
def register_auth_schemes(context: Context) -> Sequence[AuthScheme]:
    """One scheme; its keys are read now, so that a server with a wrong file does not start."""
    options = context.options
    for name in options:
        if name not in _OPTIONS:
            raise ConfigError(f"plugin.token.{name} is not known; there are {', '.join(_OPTIONS)}")
    path = options.get("keys", "")
    if not path:
        raise ConfigError(
            "plugin.token.keys is not set; it names the file of public keys. "
            "Make one with: python -m corekit_token new-key NAME --private NAME.json --keys keys.json"
        )
    skew = options.get("skew-seconds", "60")
    if not skew.isdecimal() or int(skew) > _SKEW_SECONDS_MAX:
        raise ConfigError(f"plugin.token.skew-seconds={skew} is not accepted; accepted is 0 to {_SKEW_SECONDS_MAX}")
    file = KeyFile(path, context.logger)
    file.load()
    _files.append(file)
    return [
        TokenScheme(
            file,
            context.clock.wall_ms,
            skew_ms=int(skew) * 1000,
            audience=options.get("audience") or None,
            logger=context.logger,
        )
    ]


@hookimpl
def register_services(context: Context) -> Sequence[Service]:
    """Looks at the file of keys again and again; called after `register_auth_schemes`."""
    file = _files[-1]
    return [Service("token keys", file.follow)]
