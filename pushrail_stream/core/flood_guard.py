"""The flood guard: it stops consuming when most records of many customers would become dead letters.

The cause of such a flood is a bad release, a producer's or ours, and no customer. Its events are better left in Kafka.

Rules. Records and dead letters are counted per customer over a window, replays left out. There is a flood when two
conditions hold. First, whichever one customer is left out, the others have at least ``min_dead`` dead letters, and
these are at least ``share`` of the others' records. Second, at least ``min_customers`` customers have that share of
their own records dead. So neither the busiest nor the worst customer can cause it alone. A guard that has tripped stays
tripped until an operator restarts the worker. Times are seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, NamedTuple, final

from pushrail_stream.core.event import Event

Customer = bytes | str | None
"""The customer of a record; None is a customer like any other."""

MAX_CUSTOMERS: Final = 20_000
"""Customers that are counted by name in half a window, which takes about 2 MiB. The others count as one customer."""
_NAME_CHARS: Final = 256
"""Characters of a customer's key that are kept. A key may be as long as a record."""
CHECK_EVERY: Final = 25
"""Dead letters between two checks, or a fortieth of the customers that have some, if that is more.

A check visits all of these customers, which takes 2 ms for 10,000, and a dead letter must stay cheap.
"""
_CUSTOMERS_PER_DEAD_LETTER: Final = 40
_OTHERS: Final = object()


def customer_of(event: Event | None, key: bytes | None) -> str | None:
    """The customer of a record, by its event, or by its key when there is no event."""
    if event is not None:
        return event.customer_external_id
    return None if key is None else key.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class FloodLimits:
    """The conditions of a flood."""

    window_secs: float
    """Length of the window. Except at the start, it holds between half and all of this time."""
    min_dead: int
    """Dead letters in a window, with any one customer left out."""
    share: float
    """Dead letters among the records, more than 0 and at most 1."""
    min_customers: int
    """Customers with this share of their own records dead; at least 2."""

    def __post_init__(self) -> None:
        if not 0 < self.window_secs < math.inf:
            raise ValueError(f"the flood guard needs a finite window above 0, not {self.window_secs} seconds")
        if self.min_dead < 1:
            raise ValueError("there is no flood without a dead letter")
        if not 0 < self.share <= 1:
            raise ValueError(f"a share is more than 0 and at most 1, not {self.share}")
        if self.min_customers < 2:  # noqa: PLR2004 - two is the fewest that are not one
            raise ValueError("a flood has at least 2 customers: one alone must never stop the others")


class FloodReport(NamedTuple):
    """The counts in the window, now or when the guard tripped."""

    records: int
    dead: int
    """Records that are dead letters, or would be."""
    customers: int
    """Customers with records."""
    affected: int
    """Customers with most of their records dead (``share``)."""
    window_secs: float


class _Tally(NamedTuple):
    """Sums over the window. ``missing``: dead letters that a flood still lacks, at least."""

    records: int
    dead: int
    affected: int
    missing: int


@final
class FloodGuard:
    """Counts a worker's records and dead letters in two halves of a window."""

    def __init__(self, limits: FloodLimits) -> None:
        self._limits = limits
        self._records: dict[Hashable, int] = {}
        self._records_before: dict[Hashable, int] = {}
        self._dead: dict[Hashable, int] = {}
        """All of its customers are in ``_records`` too."""
        self._dead_before: dict[Hashable, int] = {}
        self._turn_at = -math.inf
        self._until_check = 1
        self._report: FloodReport | None = None

    @property
    def tripped(self) -> bool:
        """Whether there was a flood. It never becomes false again."""
        return self._report is not None

    def count_record(self, customer: Customer, now: float) -> None:
        """Count a record."""
        if now >= self._turn_at:
            self._turn(now)
        try:
            self._records[customer] += 1
        except KeyError:
            name = self._name(customer)
            self._records[name] = self._records.get(name, 0) + 1

    def count_dead_letter(self, customer: Customer, now: float) -> bool:
        """Count a record that would be dead-lettered as undecodable or rejected. Returns whether the guard has tripped.

        The window may have forgotten the record since it was counted. Then it counts as a record again.
        """
        if self._report is not None:
            return True
        if now >= self._turn_at:
            self._turn(now)
        name = self._name(customer)
        self._records.setdefault(name, 0)
        self._dead[name] = self._dead.get(name, 0) + 1
        self._until_check -= 1
        return self._until_check <= 0 and self._check()

    def report(self) -> FloodReport:
        """The counts in the window; after a flood, the counts at that time."""
        return self._report or self._describe(self._tally())

    def _turn(self, now: float) -> None:
        half = self._limits.window_secs / 2
        if now < self._turn_at + half:
            self._records_before, self._dead_before = self._records, self._dead
            self._turn_at += half
        else:
            self._records_before, self._dead_before = {}, {}
            self._turn_at = now + half
        self._records, self._dead = {}, {}
        self._until_check = 1  # without the forgotten records, fewer dead letters may make a flood

    def _name(self, customer: Customer) -> Hashable:
        """The name under which a customer is counted in this half."""
        known = self._records
        if customer in known:
            return customer
        name = None if customer is None else customer[:_NAME_CHARS]
        return name if name in known or len(known) < MAX_CUSTOMERS else _OTHERS

    def _check(self) -> bool:
        tally = self._tally()
        if tally.missing <= 0:
            self._report = self._describe(tally)
            return True
        customers = len(self._dead) + len(self._dead_before)
        self._until_check = max(tally.missing, CHECK_EVERY, customers // _CUSTOMERS_PER_DEAD_LETTER)
        return False

    def _describe(self, tally: _Tally) -> FloodReport:
        customers = len(self._records.keys() | self._records_before.keys())
        return FloodReport(tally.records, tally.dead, customers, tally.affected, self._limits.window_secs)

    def _tally(self) -> _Tally:
        """Sum up the window, and count the dead letters that the conditions of a flood still lack.

        Two sums decide: the dead letters, and the excesses. A customer's excess is its dead letters beyond ``share`` of
        its records. Each sum leaves out the customer with the largest part of it. So the conditions also hold when any
        other customer is left out. One more dead letter adds at most one to each sum, and a record that is not
        dead adds nothing. So ``missing`` is the least number of dead letters until a flood.
        """
        limits, dead = self._limits, dict(self._dead_before)
        for customer, count in self._dead.items():
            dead[customer] = dead.get(customer, 0) + count
        now, before = self._records, self._records_before
        records = sum(now.values()) + sum(before.values())
        affected, most, worst = 0, 0, 0.0
        for customer, count in dead.items():
            seen = now.get(customer, 0) + before.get(customer, 0)
            if seen < count:
                records += count - seen
                seen = count
            excess = count - limits.share * seen
            affected += excess >= 0
            most = max(most, count)
            worst = max(worst, excess)
        total = sum(dead.values())
        missing = max(
            limits.min_dead - (total - most),
            math.ceil(worst - (total - limits.share * records)),
            limits.min_customers - affected,
        )
        return _Tally(records, total, affected, missing)
