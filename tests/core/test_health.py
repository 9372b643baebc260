"""Health: calls teach a destination's speed and its suspension, and each change is one signal."""

from __future__ import annotations

from pushrail_stream.core.batch import Attempt, Batch, CallLimits
from pushrail_stream.core.delivery import Problem
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.outcome import Blocked, CallResult, Delivered, Outcome, Retryable, Throttled
from pushrail_stream.core.signals import Resumed, Signal, Slowed, Suspended
from tests.support.builders import destination
from tests.support.policy import lane_limits, retry_policy
from tests.support.samples import delivery

LIMITS = CallLimits(10, 1_048_576)
DELIVERED = Delivered("id")
THROTTLED = Throttled("ThrottlingException", "slow")
FAILED = Retryable("503", "busy")
BLOCKED = Blocked("AccessDenied", "no")


class Destination:
    """A lane whose calls all carry the same number of entries."""

    def __init__(self) -> None:
        self.lane = Lane(destination(), lane_limits(), LIMITS, retry_policy())

    def call(self, *outcomes: Outcome, result: CallResult = "answered", now: float = 0.0) -> list[Signal]:
        deliveries = tuple(delivery(offset=number) for number in range(len(outcomes)))
        attempt = Attempt(self.lane, Batch(self.lane.destination, deliveries, LIMITS), now)
        return self.lane.health.learn(attempt, result, outcomes, now, lambda: 0.5)


def test_a_delivery_alone_is_no_signal() -> None:
    one = Destination()
    assert one.call(DELIVERED, DELIVERED) == []
    assert not one.lane.health.window.is_cut


def test_calls_halve_on_throttle_grow_on_success() -> None:
    one = Destination()
    assert [type(signal) for signal in one.call(THROTTLED)] == [Slowed]
    assert (one.lane.max_calls, one.lane.health.window.is_cut) == (4, True)
    grown = [signal for _ in range(4) for signal in one.call(DELIVERED)]
    assert [type(signal) for signal in grown] == [Slowed]
    assert one.lane.max_calls == 5


def test_only_a_second_failure_in_a_row_slows() -> None:
    one = Destination()
    assert one.call(FAILED, result="failed") == []
    assert one.call(DELIVERED) == []
    assert one.call(FAILED, result="failed") == []
    assert [type(signal) for signal in one.call(FAILED, result="failed")] == [Slowed]


def test_a_call_that_was_not_made_teaches_no_speed() -> None:
    one = Destination()
    assert [one.call(FAILED, result="not_made") for _ in range(3)] == [[], [], []]


def test_the_last_call_tells_whether_our_own_side_is_at_fault() -> None:
    one, ours = Destination(), Retryable("InvalidClientTokenId", "unknown key", ours=True)
    assert one.lane.health.own_fault is None
    one.call(ours, ours, result="not_made")
    assert one.lane.health.own_fault == Problem("InvalidClientTokenId", "unknown key", ours=True)
    for outcome in (DELIVERED, FAILED, THROTTLED, BLOCKED):
        one.call(ours, result="not_made")
        one.call(outcome)
        assert one.lane.health.own_fault is None


def test_a_one_call_window_is_followed_by_pauses() -> None:
    one = Destination()
    for _ in range(4):
        one.call(THROTTLED)
    assert one.lane.max_calls == 1
    assert one.lane.health.next_call_at > 0


def test_five_blocks_suspend_a_delivery_resumes() -> None:
    one = Destination()
    signals = [signal for _ in range(5) for signal in one.call(BLOCKED, BLOCKED)]
    assert [type(signal) for signal in signals] == [Suspended]
    assert one.lane.health.suspended_secs(12.0) == 12.0
    assert one.call(DELIVERED, now=40.0) == [Resumed(one.lane.destination, 40.0)]
    assert one.lane.health.suspended_secs(41.0) == 0.0


def test_one_delivered_entry_prevents_a_block() -> None:
    one = Destination()
    assert [one.call(DELIVERED, BLOCKED) for _ in range(9)] == [[]] * 9
