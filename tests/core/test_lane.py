"""Lanes: every delivery leaves once for each time it was queued, in batches that fit, and on time."""

from __future__ import annotations

import math
from itertools import count
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pushrail_stream.core.batch import Attempt, Batch, CallLimits, LaneLimits
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.destination import Limits
from pushrail_stream.core.lane import Lane
from pushrail_stream.core.outcome import Delivered
from pushrail_stream.core.worker_calls import WorkerCalls
from tests.support.builders import destination
from tests.support.policy import lane_limits, retry_policy
from tests.support.samples import DESTINATION, delivery

NEVER = math.inf
FATES = ["settled", "again", "again"]
spans = st.sampled_from([0.0, 0.01, 0.1, 0.25, 1.0, 7.5])
flushes = st.sampled_from([0, 100, 1_000, 20_000])
paces = st.builds(Limits, st.sampled_from([None, None, 0.5, 4.0, 100.0]), st.integers(1, 3), flushes)

BUS_LIMITS = CallLimits(10, 1_048_576)


class Queueing(RuleBasedStateMachine):
    """A lane beside a model of plain lists, on a clock that the rules move."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.offsets = count()
        self.fresh: list[Delivery] = []
        self.waiting: list[tuple[float, Delivery]] = []
        self.in_flight: list[Batch] = []
        self.not_before = -math.inf
        self.entered: dict[Delivery, int] = {}
        """The number of times that each delivery went in and did not come out yet, by `take` or `drop`."""

    @initialize(
        entries=st.integers(1, 10),
        size=st.sampled_from([50, 300, 1000]),
        pace=paces,
    )
    def open_lane(self, entries: int, size: int, pace: Limits) -> None:
        self.limits = lane_limits(max_entries=entries, max_bytes=size)
        self.lane = Lane(destination(limits=pace), self.limits, BUS_LIMITS, retry_policy(), WorkerCalls())

    @property
    def pace(self) -> Limits:
        return self.lane.destination.limits

    def is_full(self) -> bool:
        size = sum(waiting.size for waiting in self.fresh)
        return len(self.fresh) >= self.limits.max_entries or size >= self.limits.max_bytes

    def next_batch_at(self) -> float:
        """When time alone brings the next batch; infinity when it never does."""
        if len(self.in_flight) >= self.pace.max_in_flight:
            return NEVER
        if self.pace.flush_ms:
            flush_secs = min(self.pace.flush_ms / 1000, self.limits.hold_secs / 2)
        else:
            flush_secs = 0.1 if self.in_flight else 0.0
        moments = [at for at, _ in self.waiting] + [self.fresh[0].offered_at + flush_secs for _ in self.fresh[:1]]
        if self.is_full():
            moments.append(-math.inf)
        return max(min(moments, default=NEVER), self.not_before)

    def enter(self, delivery: Delivery) -> None:
        self.entered[delivery] = self.entered.get(delivery, 0) + 1

    def leave(self, delivery: Delivery) -> None:
        self.entered[delivery] -= 1
        assert self.entered[delivery] == 0, "a delivery came out twice, or of nowhere"

    @rule(size=st.integers(1, 60) | st.sampled_from([100, 299, 300, 301, 1001]), number=st.integers(1, 5))
    def offer(self, size: int, number: int) -> None:
        for _ in range(number):
            new = delivery(size, offset=next(self.offsets))
            at_before = self.next_batch_at()
            self.fresh.append(new)
            self.enter(new)
            if self.lane.offer([new], self.now):
                assert len(self.fresh) == 1 or self.is_full()
            else:
                assert self.next_batch_at() == at_before, "a batch is due, and nobody takes it"

    @rule()
    def take(self) -> None:
        due_at = self.next_batch_at()
        batch = self.lane.take(self.now)
        assert (batch is not None) == (due_at <= self.now), f"due at {due_at}, now {self.now}"
        if batch is None:
            return
        assert batch.destination == self.lane.destination
        self.check_company(batch)
        for taken in batch.deliveries:
            self.leave(taken)
        self.in_flight.append(batch)
        if self.pace.max_requests_per_second is not None:
            self.not_before = self.now + 1 / self.pace.max_requests_per_second

    def check_company(self, batch: Batch) -> None:
        """Due retries, the longest due first, then new deliveries in their order; as many as fit."""
        due = sorted((item for item in self.waiting if item[0] <= self.now), key=lambda item: item[0])
        candidates = [waiting for _, waiting in due] + self.fresh
        number = len(batch.deliveries)
        assert batch.deliveries == tuple(candidates[:number])
        size = sum(taken.size for taken in batch.deliveries)
        assert number <= self.limits.max_entries
        assert size <= self.limits.max_bytes or number == 1
        if number < min(len(candidates), self.limits.max_entries):
            assert size + candidates[number].size > self.limits.max_bytes, "there was room for one more"
        self.waiting = [item for item in self.waiting if item[1] not in batch.deliveries]
        self.fresh = self.fresh[max(0, number - len(due)) :]

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 2), fates=st.lists(st.tuples(st.sampled_from(FATES), spans), min_size=10, max_size=10))
    def finish(self, which: int, fates: list[tuple[str, float]]) -> None:
        batch = self.in_flight.pop(which % len(self.in_flight))
        for done, (becomes, delay) in zip(batch.deliveries, fates, strict=False):
            if becomes != "settled":
                self.put_back(done, delay)
        self.lane.finish()

    @rule(delays=st.lists(spans, min_size=1, max_size=6), size=st.integers(1, 60))
    def come_back(self, delays: list[float], size: int) -> None:
        """Deliveries that were in flight in earlier batches."""
        for delay in delays:
            self.put_back(delivery(size, offset=next(self.offsets)), delay)

    def put_back(self, again: Delivery, delay: float) -> None:
        self.waiting.append((self.now + delay, again))
        self.enter(again)
        self.lane.retry(again, self.now + delay)

    @precondition(lambda self: not self.in_flight)
    @rule()
    def finishing_what_was_never_taken_raises(self) -> None:
        with pytest.raises(RuntimeError, match="finished a batch it never took"):
            self.lane.finish()

    @rule(share=st.integers(1, 4))
    def drop(self, share: int) -> None:
        inside = self.fresh + [waiting for _, waiting in self.waiting]
        gone = {waiting for waiting in inside if waiting.record.offset % share == 0}
        dropped = self.lane.deliveries.drop(lambda waiting: waiting in gone)
        assert len(dropped) == len(gone)
        assert set(dropped) == gone
        for out in dropped:
            self.leave(out)
        self.fresh = [waiting for waiting in self.fresh if waiting not in gone]
        self.waiting = [item for item in self.waiting if item[1] not in gone]

    @rule(secs=spans)
    def wait(self, secs: float) -> None:
        self.now += secs

    @precondition(lambda self: self.next_batch_at() < NEVER)
    @rule()
    def wait_until_woken(self) -> None:
        at = self.lane.send_at()
        assert at is not None
        self.now = max(self.now, at)
        in_flight = len(self.in_flight)
        self.take()
        assert len(self.in_flight) == in_flight + 1, "woken for nothing"

    @rule(pace=paces)
    def change_the_document(self, pace: Limits) -> None:
        self.lane.adopt(destination(limits=pace))

    @invariant()
    def the_lane_wakes_when_there_is_something_to_send(self) -> None:
        at, due_at = self.lane.send_at(), self.next_batch_at()
        if due_at == NEVER:
            assert at == NEVER
        else:
            assert at is not None
            assert at == due_at

    @invariant()
    def everything_is_counted(self) -> None:
        inside = len(self.fresh) + len(self.waiting)
        assert len(self.lane) == inside == sum(self.entered.values())
        assert self.lane.in_flight == len(self.in_flight)
        assert self.lane.is_idle == (inside == 0 and not self.in_flight)

    def teardown(self) -> None:
        """Left alone with time, the lane gives everything out."""
        if not hasattr(self, "lane"):
            return
        while True:
            for _ in range(len(self.in_flight)):
                self.in_flight.pop()
                self.lane.finish()
            if self.lane.is_idle:
                break
            self.wait_until_woken()
        assert not any(self.entered.values())


TestQueueing = Queueing.TestCase
TestQueueing.settings = settings(max_examples=60, stateful_step_count=40)


def lane(limits: LaneLimits | None = None, bus_limits: CallLimits = BUS_LIMITS, **pace: Any) -> Lane:
    return Lane(destination(limits=Limits(**pace)), limits or lane_limits(), bus_limits, retry_policy(), WorkerCalls())


def succeed(queue: Lane, entries: int, now: float) -> None:
    """A call with this number of entries delivers them all."""
    deliveries = tuple(delivery(offset=number) for number in range(entries))
    attempt = Attempt(queue, Batch(queue.destination, deliveries, BUS_LIMITS), now)
    assert (
        queue.health.learn(attempt, "answered", [Delivered("id")] * entries, secs=0.1, now=now, jitter=lambda: 0.5)
        == []
    )


def taken(queue: Lane, now: float) -> list[Delivery]:
    batch = queue.take(now)
    return [] if batch is None else list(batch.deliveries)


def offered(queue: Lane, now: float, *sizes: int) -> list[Delivery]:
    made = [delivery(size, offset=number) for number, size in enumerate(sizes)]
    for one in made:
        queue.offer([one], now)
    return made


def test_a_first_delivery_waits_for_the_flush_time() -> None:
    queue = lane(flush_ms=500)
    first = offered(queue, 10.0, 100)
    assert queue.send_at() == 10.5
    assert taken(queue, 10.4) == []
    second = offered(queue, 10.4, 100)
    assert queue.send_at() == 10.5
    assert taken(queue, 10.5) == first + second


def test_without_a_flush_time_a_delivery_leaves_at_once() -> None:
    queue = lane(flush_ms=0)
    assert queue.offer([delivery(offset=0)], 10.0)
    assert queue.send_at() == 10.0
    assert len(taken(queue, 10.0)) == 1


def test_without_a_flush_time_deliveries_wait_behind_a_call() -> None:
    queue = lane(flush_ms=0)
    offered(queue, 10.0, 100)
    assert len(taken(queue, 10.0)) == 1
    behind = offered(queue, 10.01, 100, 100)
    assert taken(queue, 10.02) == []
    queue.finish()
    assert queue.send_at() == 10.01
    assert taken(queue, 10.02) == behind


def test_a_call_that_hangs_delays_no_delivery_for_longer_than_the_default() -> None:
    queue = lane(flush_ms=0)
    offered(queue, 10.0, 100)
    assert len(taken(queue, 10.0)) == 1
    behind = offered(queue, 10.01, 100)
    assert queue.send_at() == 10.01 + 0.1
    assert taken(queue, 10.1) == []
    assert taken(queue, 10.01 + 0.1) == behind


def test_full_batches_wait_behind_no_call() -> None:
    queue = lane(flush_ms=0)
    offered(queue, 10.0, *[1] * 25)
    assert [len(taken(queue, 10.0)) for _ in range(3)] == [10, 10, 0]


def test_the_newest_document_has_the_flush_time() -> None:
    queue = lane(flush_ms=1_000)
    first = offered(queue, 10.0, 100)
    queue.adopt(destination(limits=Limits(flush_ms=200)))
    assert queue.send_at() == 10.2
    assert taken(queue, 10.2) == first


def test_a_first_delivery_leaves_before_its_hold_is_over() -> None:
    queue = lane(lane_limits(hold_secs=4), flush_ms=60_000)
    first = offered(queue, 10.0, 100)
    assert queue.send_at() == 12.0
    assert taken(queue, 12.0) == first


def test_ten_entries_or_a_megabyte_leave_at_once() -> None:
    queue = lane()
    assert [queue.offer([delivery(offset=n)], 0.0) for n in range(11)] == [True] + [False] * 8 + [True, False]
    assert len(taken(queue, 0.0)) == 10
    assert taken(queue, 0.0) == []

    queue = lane()
    big = offered(queue, 0.0, 500_000, 499_999)
    assert taken(queue, 0.0) == []
    one_more = offered(queue, 0.0, 1)
    assert taken(queue, 0.0) == big + one_more


def test_the_surplus_waits_for_the_next_batch() -> None:
    queue = lane()
    first, second = offered(queue, 0.0, 600_000, 600_000)
    assert taken(queue, 0.0) == [first]
    assert taken(queue, 0.05) == []
    assert taken(queue, 0.1) == [second]


def test_an_oversized_delivery_goes_alone() -> None:
    queue = lane(lane_limits(max_bytes=1000))
    small, big, last = offered(queue, 0.0, 10, 1001, 10)
    assert [taken(queue, 0.0), taken(queue, 0.0)] == [[small], [big]]
    assert taken(queue, 0.1) == [last]


def test_a_due_retry_leaves_with_new_deliveries() -> None:
    queue = lane()
    late, early = delivery(offset=1), delivery(offset=2)
    queue.retry(late, 3.0)
    queue.retry(early, 2.0)
    assert queue.send_at() == 2.0
    fresh = offered(queue, 1.95, 100)
    assert taken(queue, 1.99) == []
    assert taken(queue, 2.0) == [early, *fresh]
    assert queue.send_at() == 3.0
    assert taken(queue, 3.0) == [late]


def test_retries_due_together_keep_their_order() -> None:
    queue = lane()
    retries = [delivery(offset=n) for n in range(5)]
    for one in retries:
        queue.retry(one, 1.0)
    assert taken(queue, 1.0) == retries


def test_batches_in_flight_are_bounded() -> None:
    queue = lane(lane_limits(max_entries=1), max_in_flight=2)
    offered(queue, 0.0, 1, 1, 1)
    assert [len(taken(queue, 0.0)) for _ in range(3)] == [1, 1, 0]
    assert queue.send_at() == NEVER
    queue.finish()
    assert len(taken(queue, 0.0)) == 1


def test_calls_are_spaced_by_the_rate() -> None:
    queue = lane(lane_limits(max_entries=1), max_requests_per_second=4.0)
    offered(queue, 0.0, *[1] * 5)
    assert [len(taken(queue, now)) for now in (0.0, 0.0, 0.24, 0.25, 10.0, 10.0, 10.24, 10.25)] == [
        1,
        0,
        0,
        1,
        1,
        0,
        0,
        1,
    ]
    assert queue.send_at() == 10.5


def test_the_state_tells_of_a_missing_bus() -> None:
    queue = lane()
    queue.follow_bus("missing", 0.0)
    assert (queue.is_gone, queue.state) == (True, "gone")
    queue.follow_bus("open", 0.0)
    assert (queue.is_gone, queue.state) == (False, "ok")


def test_a_dropped_delivery_makes_room() -> None:
    queue = lane(lane_limits(max_bytes=1000), flush_ms=1_000)
    gone, kept = offered(queue, 0.0, 999, 1)
    assert queue.send_at() == -math.inf
    assert queue.deliveries.drop(lambda one: one is gone) == [gone]
    assert queue.send_at() == 1.0
    assert taken(queue, 1.0) == [kept]
    assert queue.deliveries.drop(lambda _: True) == []


def test_drop_finds_new_deliveries_and_retries() -> None:
    queue = lane(lane_limits(max_entries=1))
    in_flight, fresh = offered(queue, 0.0, 1, 1)
    assert taken(queue, 0.0) == [in_flight]
    again, later = delivery(offset=5), delivery(offset=6)
    queue.retry(again, 9.0)
    queue.retry(later, 99.0)
    assert set(queue.deliveries.drop(lambda _: True)) == {fresh, again, later}
    assert (len(queue), queue.send_at(), queue.is_idle) == (0, NEVER, False)
    queue.finish()
    assert queue.is_idle


def test_finishing_too_many_batches_raises() -> None:
    queue = lane()
    with pytest.raises(RuntimeError, match=f"lane {DESTINATION.id} finished a batch it never took"):
        queue.finish()
    assert queue.in_flight == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_entries": 0},
        {"max_bytes": 0},
        {"hold_secs": 0},
        {"hold_secs": math.nan},
    ],
)
def test_impossible_limits_cannot_be_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="batch"):
        lane_limits(**wrong)


def test_the_smallest_limits_are_allowed() -> None:
    assert lane_limits(max_entries=1, max_bytes=1).max_entries == 1


def test_the_smaller_limit_bounds_a_batch() -> None:
    queue = lane(lane_limits(max_entries=4, max_bytes=1_000), CallLimits(3, 2_000))
    for number in range(5):
        queue.offer([delivery(300, offset=number)], 0.0)
    assert [len(taken(queue, 0.0)), len(taken(queue, 0.1))] == [3, 2]


def test_an_entry_over_new_limits_goes_alone() -> None:
    queue = lane(None, CallLimits(10, 1_000), flush_ms=1)
    queue.offer([delivery(900, offset=1)], 0.0)
    queue.offer([delivery(50, offset=2)], 0.0)
    queue.adapt(CallLimits(10, 500))
    assert [[each.size for each in taken(queue, 0.1)] for _ in range(2)] == [[900], [50]]


def test_it_is_silent_after_two_idle_seconds() -> None:
    queue = lane(lane_limits(max_entries=1), max_in_flight=1)
    assert not queue.is_silent(1000.0), "nobody has called it"
    waits = offered(queue, 0.0, 1, 1, 1)
    assert taken(queue, 0.0) == waits[:1]
    assert [queue.is_silent(now) for now in (1.9, 2.0)] == [False, True]
    queue.finish()
    assert queue.is_silent(3.0), "the call failed"
    assert taken(queue, 3.0) == waits[1:2]
    succeed(queue, 1, 3.5)
    assert [queue.is_silent(now) for now in (3.5, 5.4, 5.5)] == [False, False, True], "one that is still in flight"
    queue.finish()
    assert not queue.is_silent(1000.0), "it took what it was given"
    offered(queue, 1000.0, 1)
    taken(queue, 1000.0)
    assert [queue.is_silent(now) for now in (1001.9, 1002.0)] == [False, True]
