"""Health: calls teach a destination's speed and its suspension, and each change is one signal."""

from __future__ import annotations

import math

import pytest

from pushrail_stream.core.batch import Attempt, Batch, CallLimits
from pushrail_stream.core.delivery import Problem
from pushrail_stream.core.destination import Limits
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.outcome import READ_TIMEOUT, Blocked, CallResult, Delivered, Outcome, Retryable, Throttled
from pushrail_stream.core.signals import Resumed, Signal, Slowed, Suspended
from pushrail_stream.core.worker_calls import MAX_CALLS, WorkerCalls
from tests.support.builders import destination, modified
from tests.support.policy import lane_limits, retry_policy
from tests.support.samples import delivery

LIMITS = CallLimits(10, 1_048_576)
DELIVERED = Delivered("id")
THROTTLED = Throttled("ThrottlingException", "slow")
FAILED = Retryable("503", "busy")
SILENT = Retryable(READ_TIMEOUT, "")
BLOCKED = Blocked("AccessDenied", "no")


class Destination:
    """A lane whose calls all carry the same number of entries."""

    def __init__(self, max_in_flight: int = 64) -> None:
        self.calls = WorkerCalls()
        document = destination(limits=Limits(max_in_flight=max_in_flight))
        self.lane = Lane(document, lane_limits(), LIMITS, retry_policy(), self.calls)

    def call_now(self) -> None:
        self.lane.health.call_now()

    def move(self) -> None:
        self.lane.adopt(modified(self.lane.destination, region="eu-west-1"))

    def call(self, *outcomes: Outcome, result: CallResult = "answered", now: float = 0.0) -> list[Signal]:
        deliveries = tuple(delivery(offset=number) for number in range(len(outcomes)))
        attempt = Attempt(self.lane, Batch(self.lane.destination, deliveries, LIMITS), now)
        return self.lane.health.learn(attempt, result, outcomes, secs=0.1, now=now, jitter=lambda: 0.5)


def grow(one: Destination, rounds: int = 20, most: int = 40) -> None:
    """Full batches wait while as many calls as allowed are in flight."""
    health = one.lane.health
    health.window.allow(most)
    for number in range(rounds):
        for _ in range(health.window.size):
            health.note_wait(health.window.size)
            assert one.call(DELIVERED, now=number / 10) == []


def test_a_delivery_alone_is_no_signal() -> None:
    one = Destination()
    assert one.call(DELIVERED, DELIVERED) == []
    assert not one.lane.health.is_slowed


def test_calls_halve_on_throttle_grow_on_success() -> None:
    one = Destination()
    assert [type(signal) for signal in one.call(THROTTLED)] == [Slowed]
    assert (one.lane.health.max_calls, one.lane.health.is_slowed) == (4, True)
    grown = [signal for _ in range(4) for signal in one.call(DELIVERED, now=1.0)]
    assert [type(signal) for signal in grown] == [Slowed]
    assert one.lane.health.max_calls == 5


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
    one, ours = Destination(), Retryable("InvalidClientTokenId", "unknown key", is_our_fault=True)
    assert one.lane.health.own_fault is None
    one.call(ours, ours, result="not_made")
    assert one.lane.health.own_fault == Problem("InvalidClientTokenId", "unknown key", is_our_delay=True)
    for outcome in (DELIVERED, FAILED, THROTTLED, BLOCKED):
        one.call(ours, result="not_made")
        one.call(outcome)
        assert one.lane.health.own_fault is None


def test_a_sign_in_that_waits_for_its_turn_ends_no_fault_of_ours() -> None:
    one, queued = Destination(), Retryable("SignInsQueued", "more than 2 a second are due")
    one.call(queued, result="not_made")
    assert one.lane.health.own_fault is None
    one.call(Retryable("ExpiredToken", "our session", is_our_fault=True), result="not_made")
    one.call(queued, result="not_made")
    assert one.lane.health.own_fault == Problem("ExpiredToken", "our session", is_our_delay=True)


def test_a_one_call_window_is_followed_by_pauses() -> None:
    one = Destination()
    for _ in range(4):
        one.call(THROTTLED)
    assert one.lane.health.max_calls == 1
    assert one.lane.health.next_call_at > 0


def test_a_narrow_destination_that_throttles_is_slowed() -> None:
    one = Destination(max_in_flight=1)
    assert one.call(THROTTLED) == [Slowed(one.lane.destination, 1, 1)]
    assert one.lane.health.is_slowed
    assert one.call(DELIVERED) == [Slowed(one.lane.destination, 1, 1)]
    assert not one.lane.health.is_slowed


def test_each_time_out_slows() -> None:
    one = Destination()
    assert one.call(SILENT, result="failed") == [Slowed(one.lane.destination, 4, 8)]


def test_changes_beyond_the_usual_size_are_no_signals() -> None:
    one = Destination()
    grow(one)
    assert one.call(THROTTLED) == []
    assert one.lane.health.max_calls == 20


def test_eight_failed_calls_are_an_outage() -> None:
    one = Destination()
    signals = [signal for _ in range(8) for signal in one.call(FAILED, result="failed")]
    assert [(signal.in_flight, signal.most) for signal in signals if isinstance(signal, Slowed)] == [
        (4, 8), (2, 8), (1, 8),
    ]  # fmt: skip
    health = one.lane.health
    assert (health.outage.is_down, health.max_calls, health.next_call_at, one.lane.state) == (True, 1, 0.2, "slowed")
    assert not health.is_plain(1000.0)
    assert [type(signal) for signal in one.call(DELIVERED, now=1.0)] == [Slowed]
    assert (health.outage.is_down, health.max_calls, health.next_call_at) == (False, 2, -math.inf)


@pytest.mark.parametrize("answer", [THROTTLED, BLOCKED])
def test_a_refusal_is_an_answer(answer: Outcome) -> None:
    one = Destination()
    for _ in range(7):
        one.call(FAILED, result="failed")
    one.call(answer, result="failed")
    one.call(FAILED, result="failed")
    assert not one.lane.health.outage.is_down


def test_calls_that_were_not_made_end_no_outage() -> None:
    one = Destination()
    for _ in range(8):
        one.call(FAILED, result="failed")
    one.call(FAILED, result="not_made")
    assert one.lane.health.outage.is_down


def test_no_window_is_used_beyond_its_usual_size_when_the_worker_is_full() -> None:
    one = Destination()
    grow(one)
    assert one.lane.health.max_calls == 40
    one.calls.in_flight = MAX_CALLS
    assert one.lane.health.max_calls == 8
    one.lane.health.window.allow(3)
    assert one.lane.health.max_calls == 3


def test_a_wait_for_others_calls_grows_no_window() -> None:
    one = Destination()
    one.calls.in_flight = MAX_CALLS
    grow(one, rounds=3)
    assert one.lane.health.window.size == 8
    one.calls.in_flight = 0
    for number in range(80):
        one.lane.health.note_wait(7)
        one.call(DELIVERED, now=float(number))
    assert one.lane.health.window.size == 8, "fewer calls than it holds are in flight: the rate keeps it back"


def test_an_operator_or_a_new_way_ends_the_pause() -> None:
    for change in (Destination.call_now, Destination.move):
        one = Destination()
        for _ in range(8):
            one.call(FAILED, result="failed")
        change(one)
        assert (one.lane.health.outage.is_down, one.lane.health.next_call_at) == (False, -math.inf)


def test_a_changed_document_changes_the_limits() -> None:
    one = Destination()
    one.lane.adopt(destination(limits=Limits(4.0, 2)))
    assert (one.lane.health.max_calls, one.lane.health.call_rate.per_second) == (2, 4.0)


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


def test_our_own_fault_gets_one_call_at_a_time_with_pauses() -> None:
    one, ours = Destination(), Retryable("InvalidClientTokenId", "our key", is_our_fault=True)
    pauses, now = list[float](), 0.0
    for _ in range(6):
        one.call(ours, result="not_made", now=now)
        pauses.append(round(one.lane.health.next_call_at - now, 6))
        now = one.lane.health.next_call_at
    assert pauses == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert (one.lane.health.max_calls, one.lane.health.is_ill, one.lane.health.outage.is_down) == (1, True, False)
    one.call_now()
    assert one.lane.health.next_call_at <= 0.0, "an operator waits for no pause"
    one.call(DELIVERED, now=now)
    assert (one.lane.health.max_calls, one.lane.health.is_ill) == (8, False)
