"""Numbers, dates and addresses as Java prints them, for answers that tools compare letter by letter. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from ipaddress import IPv6Address, ip_address

_MASK64 = (1 << 64) - 1
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def hex64(value: int) -> str:
    """A signed 64-bit number as Java's `Long.toHexString` writes it."""
    return format(value & _MASK64, "x")


def signed64(value: int) -> int:
    """An unsigned 64-bit number as Java's `long` shows it."""
    value &= _MASK64
    return value - (1 << 64) if value >> 63 else value


def java_double(value: float) -> str:
    """A float as Java's `Double.toString` writes it: plain from 10^-3 to 10^7, else with an exponent."""
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(float(value))
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    sign, digits, exponent = Decimal(repr(float(value))).normalize().as_tuple()
    assert isinstance(exponent, int)
    first, rest = digits[0], "".join(map(str, digits[1:])) or "0"
    return f"{'-' if sign else ''}{first}.{rest}E{exponent + len(digits) - 1}"


def java_date(ms: int) -> str:
    """A time in ms since 1970 as Java's `Date.toString` writes it, always in UTC."""
    when = datetime.fromtimestamp(ms / 1000, tz=UTC)
    return f"{_DAYS[when.weekday()]} {_MONTHS[when.month - 1]} {when.day:02d} {when:%H:%M:%S} UTC {when.year}"


def java_host(host: str) -> str:
    """An address as Java's `getHostAddress` writes it: IPv6 in full, IPv4 inside IPv6 as IPv4, other text unchanged."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    groups = ":".join(f"{int.from_bytes(address.packed[at : at + 2], 'big'):x}" for at in range(0, 16, 2))
    return f"{groups}%{address.scope_id}" if address.scope_id else groups


def socket_text(host: str, port: int) -> str:
    """An address as Java's `InetSocketAddress` writes it, without the leading slash: `127.0.0.1:40000`."""
    if not port:
        return host
    text = java_host(host)
    return f"[{text}]:{port}" if ":" in text else f"{text}:{port}"
