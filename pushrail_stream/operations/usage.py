"""Usage: the deliveries of a month by customer or destination, in EventBridge's units, from the delivery log."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, final

from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.core.units import units_of
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.operations.attempt_index import AttemptIndex
from pushrail_stream.operations.attempt_search import search_attempts
from pushrail_stream.operations.attempts import Attempt, AttemptFilter
from pushrail_stream.operations.times import now_ms
from pushrail_stream.operations.topic_reader import Progress
from pushrail_stream.settings.model import Settings

By = Literal["customer", "destination"]
_MONTH: Final = re.compile(r"([0-9]{4})-([0-9]{2})")
_MONTHS: Final = 12
_FIRST: Final = 1970 * _MONTHS
_LAST: Final = 9999 * _MONTHS
"""Months of the calendar that epoch milliseconds and Python's dates both have."""


class Month(NamedTuple):
    """A calendar month in UTC: epoch milliseconds of its beginning, and of the next one's."""

    since_ms: int
    until_ms: int


def parse_month(text: str) -> Month | None:
    """The month of a text such as ``2026-11``; None for any other text, and before 1970."""
    found = _MONTH.fullmatch(text)
    months = int(found[1]) * _MONTHS + int(found[2]) - 1 if found and 1 <= int(found[2]) <= _MONTHS else 0
    return Month(_begin_ms(months), _begin_ms(months + 1)) if _FIRST <= months < _LAST else None


def this_month() -> str:
    """The present month, as `parse_month` reads it."""
    return format_rfc3339(now_ms())[:7]


def _begin_ms(months: int) -> int:
    year, month = divmod(months, _MONTHS)
    return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp()) * 1000


class Subject(NamedTuple):
    """The customer, or the destination, whose deliveries are counted together."""

    vendor: str
    customer: str
    destination: str | None
    """None when destinations are not told apart."""


@final
@dataclass(slots=True)
class Amount:
    """Delivered entries."""

    entries: int = 0
    bytes: int = 0
    units: int = 0

    def add(self, size: int) -> None:
        """Count one entry of this size in bytes."""
        self.entries += 1
        self.bytes += size
        self.units += units_of(size)


@final
@dataclass
class Usage:
    """The deliveries of a month."""

    is_complete: bool
    """Whether the log is known to reach back to the beginning of the month."""
    amounts: defaultdict[Subject, Amount] = field(default_factory=lambda: defaultdict(Amount))
    total: Amount = field(default_factory=Amount)
    unsized: int = 0
    """Records without a usable size: they count as deliveries of no bytes."""
    oldest_ms: int | None = None

    def add(self, attempt: Attempt, by: By) -> None:
        """Count a delivered entry."""
        size = attempt.get("entryBytes")
        if type(size) is not int or size < 0:
            self.unsized += 1
            size = 0
        vendor, customer, destination = (str(attempt.get(name) or "") for name in _SUBJECT)
        self.amounts[Subject(vendor, customer, destination if by == "destination" else None)].add(size)
        self.total.add(size)
        self.oldest_ms = attempt.at_ms if self.oldest_ms is None else min(self.oldest_ms, attempt.at_ms)

    def largest_first(self) -> Iterable[tuple[Subject, Amount]]:
        """The amounts, those with the most units first."""
        return sorted(self.amounts.items(), key=lambda one: (-one[1].units, one[0]))


_SUBJECT: Final = ("vendor", "customerExternalId", "destinationId")


def read_usage(settings: Settings, month: Month, by: By, progress: Progress) -> Usage:
    """Count a month's delivered entries in the index, as far as it goes, and in the topic. Raises `OperatorError`."""
    wanted = AttemptFilter(status="delivered", since_ms=month.since_ms, until_ms=month.until_ms)
    usage = Usage(_reaches_back(settings, month.since_ms))
    for attempt in search_attempts(settings, wanted, progress):
        usage.add(attempt, by)
    return usage


def _reaches_back(settings: Settings, since_ms: int) -> bool:
    """Whether no attempt from that time on can have been removed from both the topic and the index."""
    path, topic = settings.history.index, settings.topics.attempts
    if path is not None and path.exists():
        with AttemptIndex.open(path, topic) as index:
            if any(True for _ in index.find(AttemptFilter(until_ms=since_ms), newest=1)):
                return True
    with Scan(reached_kafka(settings), topic, since_ms=since_ms) as scan:
        return scan.reaches_back
