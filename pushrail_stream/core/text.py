"""Texts in headers, records, errors and views: times, spans of time, and messages without secrets."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

MAX_MESSAGE_BYTES: Final = 1024
"""Longest error message that is kept, in UTF-8 bytes."""

_LOOKED_THROUGH_CHARS: Final = 64 << 10
"""Characters of a message that are searched for credentials, which takes at most 20 ms; the rest is cut off. The number
is far above the bytes that are kept, so that no part of a credential at the cut is kept."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
MIN_TIME_MS: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
"""0001-01-01T00:00:00.000Z, epoch milliseconds: the first moment that `format_rfc3339` can write."""
MAX_TIME_MS: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
"""9999-12-31T23:59:59.999Z, the last one."""
_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:(?P<second>\d\d)(?:\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
# Access key ids, session tokens and signatures: buses repeat them in their signature errors.
_SECRETS: Final = (
    (re.compile(r"\b((?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{2})[A-Z0-9]{6,}"), r"\1***"),
    (re.compile(r"(?i)(x-amz-security-token\s*[:=]\s*)[^\s'\",;]+"), r"\1***"),
    (re.compile(r"(?i)(signature\s*=\s*)[0-9a-f]{16,}"), r"\1***"),
    # Secret keys and tokens by their length; the path of a resource's name may be as long and is no secret.
    (re.compile(r"(\barn:[\w+.@:/*-]+)|[A-Za-z0-9/+]{40,}={0,2}"), lambda m: m[1] or "***"),
)
_VALUE: Final = "Value '"
"""A bus may quote values of the request that it refuses, a customer's event among them: "1 validation error detected:
Value 'V' at 'entries.1.member.detail' failed to satisfy constraint: ..."."""
_PATH: Final = re.compile(r"' at '[\w.]{1,200}'(?= failed|\Z)")


def parse_rfc3339(text: str) -> int | None:
    """Epoch milliseconds of an RFC 3339 date-time with offset; None when it is not one.

    A leap second (``:60``) is the second after ``:59``, as in POSIX. Digits below a millisecond are cut off. A leap
    second or an offset can lead to a time outside `MIN_TIME_MS` to `MAX_TIME_MS`.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    leap = match["second"] == "60"
    if leap:
        text = text[:17] + "59" + text[19:]
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return (moment - _EPOCH) // _MILLISECOND + 1000 * leap


def format_rfc3339(epoch_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds, as ``2026-05-26T14:21:08.493Z``.

    A time without a four-digit year becomes the nearest one that has it. A Kafka timestamp may be any 64-bit number.
    """
    secs, ms = divmod(min(max(epoch_ms, MIN_TIME_MS), MAX_TIME_MS), 1000)
    return f"{_format_second(secs)}.{ms:03}Z"


@lru_cache(maxsize=64)
def _format_second(epoch_secs: int) -> str:
    """As ``2026-05-26T14:21:08``. Most calls of the attempts log are of the last seconds."""
    return (_EPOCH + timedelta(seconds=epoch_secs)).isoformat()[:19]


def format_span(secs: float) -> str:
    """A span of time in whole seconds, in its two largest units: ``5 s``, ``1 min 20 s``, ``2 h 5 min``, ``1 d 3 h``.

    A negative span, which comes from two clocks that differ, is ``0 s``.
    """
    minutes, seconds = divmod(max(0, round(secs)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def format_age(secs: float) -> str:
    """The time since a moment: ``5 s ago``; ``5 s ahead`` for a time in the future, as another clock may tell."""
    return f"{format_span(-secs)} ahead" if round(secs) < 0 else f"{format_span(secs)} ago"


def safe_message(text: str) -> str:
    """The text without credentials and quoted values, valid UTF-8 of at most `MAX_MESSAGE_BYTES`.

    An error about a value of the request keeps the name of the field.
    """
    if _VALUE in text:
        text = _without_values(text)
    text = text[:_LOOKED_THROUGH_CHARS]
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text.encode("utf-8", "replace")[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore")


def _without_values(text: str) -> str:
    # Only the last field's name is certain: everything before it may be part of a value.
    path = _PATH.match(text, max(0, text.rfind("' at '")))
    return text[: text.index(_VALUE)] + _VALUE + "***" + (path[0] if path else "'")
