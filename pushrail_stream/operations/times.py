"""Moments as operators write them: RFC 3339, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from pushrail_stream.core.text import parse_rfc3339
from pushrail_stream.errors import UsageError

_AGO: Final = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def now_ms() -> int:
    """Epoch milliseconds."""
    return int(datetime.now(UTC).timestamp() * 1000)


def parse_moment(text: str) -> int | None:
    """Epoch milliseconds of a text such as ``2026-11-24T09:00:00Z`` or ``2h`` (ago); None for any other text."""
    if found := _AGO.fullmatch(text):
        ago_ms = timedelta(**{_UNITS[found[2]]: int(found[1])}) // timedelta(milliseconds=1)
        return max(now_ms() - ago_ms, 0)  # Kafka's times begin in 1970
    epoch_ms = parse_rfc3339(text)
    return None if epoch_ms is None or epoch_ms < 0 else epoch_ms


def check_period(since_ms: int | None, until_ms: int | None, options: str = "--") -> None:
    """Raise `UsageError` for a period that ends before it begins. None is no bound on that side."""
    if since_ms is not None and until_ms is not None and until_ms <= since_ms:
        raise UsageError(f"{options}until: must be later than {options}since")
