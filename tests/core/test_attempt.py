"""Attempts: their deadline, and the reasons to make no further call."""

from __future__ import annotations

from pushrail_stream.core.batch import Attempt, Batch, CallLimits
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.outcome import Blocked
from pushrail_stream.core.suspension import SUSPEND_AFTER
from pushrail_stream.core.worker_calls import WorkerCalls
from tests.support.builders import destination
from tests.support.policy import lane_limits, retry_policy
from tests.support.samples import delivery

LIMITS = CallLimits(10, 1_048_576)


def attempt(lane: Lane, now: float, *, hold_until: float = 10.0) -> Attempt:
    one = delivery()
    one.hold_until = hold_until
    return Attempt(lane, Batch(lane.destination, (one,), LIMITS), now)


def new_lane() -> Lane:
    return Lane(destination(), lane_limits(), LIMITS, retry_policy(), WorkerCalls())


def suspend(lane: Lane) -> None:
    for _ in range(SUSPEND_AFTER):
        lane.health.learn(
            attempt(lane, 0.0), "answered", [Blocked("AccessDenied", "no")], secs=0.1, now=0.0, jitter=lambda: 0.5
        )


def test_the_deadline_is_at_least_two_seconds() -> None:
    assert [attempt(new_lane(), now).deadline for now in (0.0, 7.9, 9.5)] == [10.0, 10.0, 11.5]


def test_a_later_suspension_ends_the_attempt() -> None:
    lane = new_lane()
    running = attempt(lane, 0.0)
    suspend(lane)
    assert (running.is_refused, running.is_over, running.is_probe) == (True, True, False)


def test_a_probe_is_not_refused_by_its_suspension() -> None:
    lane = new_lane()
    suspend(lane)
    probe = attempt(lane, 40.0)
    assert (probe.is_probe, probe.is_refused, probe.is_over) == (True, False, False)
