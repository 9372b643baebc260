"""Moments as operators write them: RFC 3339, a day with or without a time, or how long ago. Without an offset: UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from pushrail_stream.core.text import parse_rfc3339
from pushrail_stream.errors import UsageError

MOMENT_FORMS: Final = (
    "a time such as 2026-11-24T09:00:00Z, 2026-11-24, 'yesterday 14:00', or how long ago: 90s, 15m, 2h, 7d"
)
"""The forms that `parse_moment` knows, for messages."""

_AGO: Final = re.compile(r"([0-9]{1,6})([smhd])(?: ago)?")
_DAY: Final = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2}|today|yesterday)"
    r"(?:[ T](?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}))?)?"
)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def now_ms() -> int:
    """Epoch milliseconds."""
    return int(datetime.now(UTC).timestamp() * 1000)


def parse_moment(text: str) -> int | None:
    """Epoch milliseconds of a text in one of the `MOMENT_FORMS`; None for any other text, and before 1970."""
    text = " ".join(text.split())
    if text == "now":
        return now_ms()
    if found := _AGO.fullmatch(text):
        ago_ms = timedelta(**{_UNITS[found[2]]: int(found[1])}) // timedelta(milliseconds=1)
        return max(now_ms() - ago_ms, 0)  # Kafka's times begin in 1970
    epoch_ms = _day_and_time(found) if (found := _DAY.fullmatch(text)) else parse_rfc3339(text)
    return None if epoch_ms is None or epoch_ms < 0 else epoch_ms


def _day_and_time(found: re.Match[str]) -> int | None:
    days_ago = {"today": 0, "yesterday": 1}.get(found["day"])
    try:
        begin = datetime.fromisoformat(found["day"]) if days_ago is None else datetime.now(UTC) - timedelta(days_ago)
        hour, minute, second = (int(found[unit] or 0) for unit in ("hour", "minute", "second"))
        moment = begin.replace(hour=hour, minute=minute, second=second, microsecond=0, tzinfo=UTC)
    except ValueError:  # there is no such day or time
        return None
    return int(moment.timestamp() * 1000)


def check_period(since_ms: int | None, until_ms: int | None, options: str = "--") -> None:
    """Raise `UsageError` for a period that ends before it begins. None is no bound on that side."""
    if since_ms is not None and until_ms is not None and until_ms <= since_ms:
        raise UsageError(f"{options}until: must be later than {options}since")
