"""The objective: an event reaches its destination within 30 s. This module decides who caused a longer delay.

A delivery is judged once, when a first call or a cursor delivers it, or when it leaves for a retry topic. It is late
when it took longer than 30 s from its record's Kafka timestamp on, or left. The delay is ours when the first attempt
came later than 30 s after the record, as the record waited in Kafka or in a worker until then, or when a fault of our
own held the delivery up. Otherwise it is the destination's: it was asked in time, and refused, throttled or did not
answer, or it takes fewer events than come for it (also by limits in its document), so that it fell behind.

`Delivery.age_from_ms` is the time of the first attempt. For the deliveries of a cursor it is the time from which its
destination was behind, or the end of our last fault, if that was later: every commit of the cursor has this time, so
that a restart does not forget it.
"""

from __future__ import annotations

from typing import Final, Literal

from pushrail_stream.core.delivery import Problem

LATE_SECS: Final = 30.0
"""Seconds of the objective."""
Cause = Literal["ours", "destination"]


def cause_of_delay(recorded_ms: int, age_from_ms: int | None, problem: Problem | None) -> Cause:
    """The side that delayed a delivery.

    ``recorded_ms``: the Kafka timestamp of its record. ``age_from_ms``: see `Delivery.age_from_ms`. ``problem``: its
    last failure.
    """
    if problem is not None and problem.is_our_delay:
        return "ours"
    is_asked_late = age_from_ms is None or age_from_ms - recorded_ms > LATE_SECS * 1000
    return "ours" if is_asked_late else "destination"
