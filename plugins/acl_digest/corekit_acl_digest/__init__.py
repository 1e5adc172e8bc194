"""The authentication schemes that every ZooKeeper has: `digest`, `ip` and `world`.

Settings: `DigestAuthenticationProvider.enabled`, `.digestAlg` and `.superDigest`. The ACL schemes `auth` (the caller's
identities) and `super` belong to the kernel and have no object here.
"""

from __future__ import annotations

from collections.abc import Sequence

from corekit.api import API_VERSION, AuthScheme
from corekit.hooks import Context, hookimpl
from corekit_acl_digest.digest import DigestScheme
from corekit_acl_digest.ip import IpScheme
from corekit_acl_digest.world import WorldScheme

kind = "auth"
api_version = API_VERSION


@hookimpl
def register_auth_schemes(context: Context) -> Sequence[AuthScheme]:
    """`digest` unless it is switched off, `ip` and `world`."""
    settings = context.settings
    schemes: list[AuthScheme] = [IpScheme(), WorldScheme()]
    if settings.digest_auth_enabled:
        schemes.append(DigestScheme(settings.super_digest or None, settings.digest_auth_alg))
    return schemes
