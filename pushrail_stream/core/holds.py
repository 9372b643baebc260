"""Holds: for how long a delivery that waits in a lane may hold back its partition's commit.

A cursor's delivery holds back no commit, so it may wait for any time. It leaves as a copy only if calls fail for it
alone for ``hold_secs``, while its bus takes others. Every other delivery holds back the commit of its partition: those
to a destination for which few wait, and those from retry topics, which have no cursors. It waits for at most
``hold_secs``. When it has only waited for its turn, because its destination takes others, it moves to a cursor then.
That cursor has no other delivery, and the live reader keeps the records that follow, so nothing is read again. One from
a retry topic waits for another hold, and yields to newer ones. The same holds while many destinations may wait for one
cause, since all of them together have many deliveries: our sign-in, the check whether the bus exists, a fault of ours,
or an endpoint that is down. It also holds for a destination that has deliveries on cursors: its endpoint may just be
back. Otherwise `end_holds` gives the delivery out, to leave as a copy.

All times are seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from typing import Final

from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.outcome import Outcome, Throttled
from pushrail_stream.core.retry import RetryState

MAX_LATE: Final = 1_000
"""Most deliveries from retry topics that wait in a lane for longer than their hold, until room is needed: about 3 MB of
events. They hold back the commits of their retry topics, but commits name the deliveries that have settled above."""


def retry_state(lane: Lane, delivery: Delivery, now: float, now_ms: int) -> RetryState:
    """The facts about a delivery that decide its next step."""
    since_ms = now_ms if (age_from_ms := delivery.age_from_ms) is None else age_from_ms
    # A first-time delivery then waits for the end of its hold, and moves to a cursor.
    waits_for_cursor = delivery.tier == 0 and lane.health.is_ill_with_others
    left_secs = math.inf if waits_for_cursor else delivery.hold_until - now
    age_secs, bounds = (now_ms - since_ms) / 1000, lane.destination.retry
    return RetryState(age_secs, left_secs, delivery.tier, only_waits(lane, now), delivery.counted_attempts, bounds)


def note_failure(lane: Lane, delivery: Delivery, outcome: Outcome, now: float) -> None:
    """Note a failed call. A cursor's delivery begins its hold now, unless the destination takes no others."""
    if delivery.pending.can_be_put_back and (isinstance(outcome, Throttled) or lane.is_stuck(now)):
        delivery.hold_until = math.inf
    elif delivery.hold_until == math.inf:
        delivery.hold_until = now + lane.hold_secs


def only_waits(lane: Lane, now: float) -> bool:
    """Whether a delivery only waits for its turn: its destination takes others, or our sign-in or check is not done."""
    longest_secs = lane.hold_secs + 1 / lane.health.call_rate.per_second
    return lane.is_shut or (now - lane.health.throughput.last <= longest_secs and not lane.is_stuck(now))


def may_wait_on_cursor(lane: Lane, now: float) -> bool:
    """Whether a first-time delivery moves to a cursor at the end of its hold, although few wait."""
    return lane.has_cursor or lane.waits_with_others or only_waits(lane, now)


def end_holds(lane: Lane, now: float, now_ms: int) -> list[Delivery]:
    """Take out the deliveries that may not hold back commits any longer. Cursors have taken over what they can.

    A delivery from a retry topic may wait on while its destination takes others: there is no cursor for it, and a
    crowd of copies would come back together, wait again, and use only a part of the destination's limit.
    """
    leaving = list[Delivery]()
    for delivery in lane.deliveries.overdue(now):
        if only_waits(lane, now) and _may_be_late(lane, delivery, now, now_ms):
            lane.deliveries.hold_again(delivery, now + lane.hold_secs)
        else:
            leaving.append(delivery)
    return leaving


def _may_be_late(lane: Lane, delivery: Delivery, now: float, now_ms: int) -> bool:
    """Whether an overdue delivery comes from a retry topic, has room, and has not expired."""
    if delivery.tier == 0 or len(lane.deliveries.late) >= MAX_LATE:
        return False
    if delivery.first_attempt_ms is None:
        delivery.first_attempt_ms = now_ms  # its age begins when it is due and cannot be sent
    return retry_state(lane, delivery, now, now_ms).age_secs < lane.max_age_secs
