"""Moments on the command line: RFC 3339, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from pushrail_stream.core.text import format_rfc3339, parse_rfc3339
from pushrail_stream.errors import UsageError

_AGO: Final = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class _Moment(click.ParamType):  # type: ignore[type-arg]  # generic for type checkers alone
    """Epoch milliseconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if found := _AGO.fullmatch(value):
            ago_ms = timedelta(**{_UNITS[found[2]]: int(found[1])}) // timedelta(milliseconds=1)
            return max(now_ms() - ago_ms, 0)  # Kafka's times begin in 1970
        epoch_ms = parse_rfc3339(value)
        if epoch_ms is None or epoch_ms < 0:
            self.fail("must be a time such as 2026-11-24T09:00:00Z, or how long ago: 90s, 15m, 2h, 7d", param, ctx)
        return epoch_ms


MOMENT: Final = _Moment()


def check_period(since_ms: int | None, until_ms: int | None, options: str = "--") -> None:
    """Refuse, as wrong usage, a time that ends before it begins; None: no bound on that side."""
    if since_ms is not None and until_ms is not None and until_ms <= since_ms:
        raise UsageError(f"{options}until: must be later than {options}since")


def now_ms() -> int:
    """Epoch milliseconds."""
    return int(datetime.now(UTC).timestamp() * 1000)


def shown(epoch_ms: int | None) -> str:
    """A moment for people and programs; empty for none."""
    return "" if epoch_ms is None else format_rfc3339(epoch_ms)
