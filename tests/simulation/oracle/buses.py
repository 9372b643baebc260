"""A bus that does not exist swallows deliveries only until the next check, because a worker asks whether it exists."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Call, Violation

ASSERTION: Final = "a missing bus is noticed"
CHECK_EVERY_SECS: Final = 600.0
"""Longest time in seconds between two checks of a bus in use."""
_UNANSWERED_SECS: Final = 30.0
"""Longest time in seconds between two checks while none gets an answer. One that fails before it reaches AWS leaves no
trace here."""
_MARGIN_SECS: Final = 60.0
"""Time in seconds for the check itself, and for calls that are in flight."""


def find_swallowed(story: Deliveries) -> Iterator[Violation]:
    """A violation for each bus to which a worker goes on to send although it does not exist."""
    calls: dict[tuple[str, str], list[Call]] = defaultdict(list)
    for call in story.evidence.calls:
        if call.api in {"PutEvents", "DescribeEventBus"}:
            calls[call.host, call.target].append(call)
    for (host, bus), made in calls.items():
        if (at := _unnoticed(story, bus, made)) is not None:
            yield Violation(ASSERTION, f"{host} goes on to send to {bus} at {at:.3f}, which does not exist", at)
        elif (at := _unasked(made)) is not None:
            yield Violation(ASSERTION, f"{host} sends to {bus} until {at:.3f}, and never asked whether it exists", at)


def _unnoticed(story: Deliveries, bus: str, calls: list[Call]) -> float | None:
    """The time of an entry that vanished after a check had told that the bus does not exist.

    A later check tells the worker otherwise when its answer says so, is garbled, or denies the right to ask. A worker
    forgets the bus when its owner's document no longer names it, is disabled or deleted.
    """
    partings = story.documents.partings(bus)
    told_at: float | None = None
    for call in calls:
        if call.api == "DescribeEventBus" and call.answered_at is not None:
            if call.is_clear and is_gone(call):
                told_at = call.answered_at
            elif call.is_garbled or call.status == 200 or call.code == "AccessDeniedException":
                told_at = None
        elif told_at is not None and _swallowed(call) and call.at > told_at + _MARGIN_SECS:
            since = told_at - story.stale_secs(told_at, call.at)
            if not any(since <= parted_at <= call.at for parted_at in partings):
                return call.at
    return None


def _unasked(calls: list[Call]) -> float | None:
    """The time of an entry that vanished when a check was long due. The first call from then on begins the check."""
    uses = [call for call in calls if call.api == "PutEvents"]
    vanished = [call.at for call in uses if _swallowed(call)]
    if not vanished:
        return None
    first, last = vanished[0], vanished[-1]
    asked = [call.at for call in calls if call.api == "DescribeEventBus" and call.at < last]
    due_at = max(asked) + CHECK_EVERY_SECS if asked else first + _UNANSWERED_SECS
    begun_at = next((call.at for call in uses if call.at >= due_at), last)
    return last if last > begun_at + _MARGIN_SECS else None


def is_gone(call: Call) -> bool:
    """Whether the answer to a check tells its host that the bus does not exist."""
    is_refused = call.fault == "customer" and call.status != 200 and call.code == "ResourceNotFoundException"
    return call.api == "DescribeEventBus" and call.is_clear and is_refused


def _swallowed(call: Call) -> bool:
    return any(entry.event_id is not None and entry.fault == "customer" for entry in call.entries)
