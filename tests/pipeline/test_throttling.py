"""A destination that throttles gets fewer calls, and more again step by step."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest

from pushrail_stream.core.batch import Batch
from pushrail_stream.core.signals import Slowed
from pushrail_stream.eventbridge.error_codes import CallReply
from tests.support.builders import destination, narrow
from tests.support.pipeline_world import World
from tests.support.policy import lane_limits, retry_policy
from tests.support.records import (
    P0,
    RETRY,
    always,
    answered,
    failed,
    fault,
    in_turn,
    keys,
    record,
    records,
    retry_record,
    take_all,
)
from tests.support.virtual_time import in_virtual_time, virtual_loop

SLOW_DOWN = failed("ThrottlingException", 400, "Rate exceeded")
TEN = [str(n) for n in range(10)]


@pytest.mark.parametrize(
    "reply",
    [
        SLOW_DOWN,
        failed("429", 429),
        failed("RequestThrottledException", 400),
        failed("Throttling", 400, operation="AssumeRole"),
    ],
)
@in_virtual_time
async def test_a_throttled_call_waits_for_its_lane(reply: CallReply) -> None:
    world = World(destination(), answer=in_turn(reply, take_all))
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(10)))
        assert world.bus.made() == [(0.0, TEN), (0.01, TEN)]
        assert [(slowed.in_flight, slowed.most) for slowed in worker.reported(Slowed)] == [(4, 8)]
        assert worker.commit() == {P0: 10}


@in_virtual_time
async def test_success_grows_a_halved_window() -> None:
    world = World(destination(), latency=1.0)
    world.bus.answer(lambda batch: SLOW_DOWN if virtual_loop().elapsed < 1 else take_all(batch))
    async with world.worker() as worker:
        await worker.feed_until(9, *records(range(240)))
        # All eight were throttled: calls from before the cut teach nothing new.
        assert Counter(at for at, _ in world.bus.made()) == {0: 8, 1: 4, 2: 5, 3: 6, 4: 7, 5: 2}
        assert [slowed.in_flight for slowed in worker.reported(Slowed)] == [4, 5, 6, 7]
        assert len(world.bus.arrived["dst_acme"]) == 240
        assert worker.commit() == {P0: 240}
        await worker.at(62)
        await worker.feed_until(66, *records(range(240, 320)))
        assert worker.reported(Slowed)[-1].in_flight == 8, "a minute after it was throttled at eight"


@in_virtual_time
async def test_each_throttled_round_halves_the_window() -> None:
    world = World(destination(), latency=1.0)
    world.bus.answer(lambda batch: SLOW_DOWN if virtual_loop().elapsed < 3 else take_all(batch))
    async with world.worker() as worker:
        await worker.feed_until(3.5, *records(range(80)))
        assert Counter(at for at, _ in world.bus.made()) == {0: 8, 1: 4, 2: 2, 3: 1}
        assert [slowed.in_flight for slowed in worker.reported(Slowed)] == [4, 2, 1]


@in_virtual_time
async def test_a_window_of_one_call_gets_growing_pauses() -> None:
    world = World(narrow("acme", 1), answer=always(SLOW_DOWN), latency=0.0)
    async with world.worker(batches=lane_limits(hold_secs=60)) as worker:
        await worker.feed_until(30, record(0))
        made = [at for at, _ in world.bus.made()]
        gaps = [round(after - before, 6) for before, after in pairwise(made)]
        assert gaps == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0]
        world.bus.answer(take_all)
        await worker.at(40)
        assert worker.commit() == {P0: 1}
        # One call went through: the pauses begin anew.
        world.bus.answer(always(SLOW_DOWN))
        await worker.feed_until(40.35, record(1))
        assert [at for at, _ in world.bus.made()][-2:] == [40.1, 40.2]


@in_virtual_time
async def test_without_progress_deliveries_move_away() -> None:
    world = World(narrow("acme", 1), destination("fine"), answer=always(SLOW_DOWN), latency=0.0)
    async with world.worker() as worker:
        await worker.feed_until(10, record(0), *records(range(1, 11), "fine"))
        assert world.topics.moved() == [(6.402, "0", "10s", "throttled")]
        assert worker.commit() == {P0: 11}


@in_virtual_time
async def test_stalled_deliveries_climb_and_expire() -> None:
    world = World(narrow("acme", 1), answer=always(SLOW_DOWN))
    async with world.worker(poll_secs=1, policy=retry_policy(max_age_secs=300)) as worker:
        await worker.feed_until(2500, record(0))
        assert [(tier, reason) for _, _, tier, reason in world.topics.moved()] == [
            ("10s", "throttled"), ("2m", "throttled"), ("30m", "throttled"),
        ]  # fmt: skip
        assert world.topics.dead() == [("0", "expired")]
        worker.check_all_committed()


@in_virtual_time
async def test_what_exceeds_a_quota_is_read_again() -> None:
    world = World(destination("quota"), destination("fine"))
    tokens = Tokens(per_second=5)
    world.bus.answer(tokens.answer, "dst_quota")
    async with world.worker(poll_secs=0.1) as worker:
        offsets = iter(range(10_000))
        for tenth in range(200):
            await worker.at(tenth / 10)
            # 100 events a second for a bus that takes 50.
            worker.feed(*records([next(offsets) for _ in range(10)], "quota"), record(next(offsets), "fine"))
        await worker.at(45)
        assert len(world.bus.arrived["dst_quota"]) == len(set(world.bus.arrived["dst_quota"])) == 2000
        assert world.topics.written == []
        assert [at for at, _ in world.bus.made("dst_fine")] == [round(n / 10 + 0.1, 6) for n in range(200)]
        assert {slowed.destination.id for slowed in worker.reported(Slowed)} == {"dst_quota"}
        assert worker.commit()[P0] == 2200
        worker.check_all_committed()


@pytest.mark.unmeasured
@in_virtual_time
async def test_a_long_queue_is_never_copied() -> None:
    world = World(destination(), answer=Tokens(per_second=1, at_once=5).answer)
    async with world.worker(poll_secs=0.5) as worker:
        # For half a minute ten times the bus's quota of ten a second.
        for tenth in range(300):
            await worker.at(tenth / 10)
            worker.feed(*records(range(10 * tenth, 10 * tenth + 10)))
        await worker.at(250)
        assert len(world.bus.arrived["dst_acme"]) >= 0.9 * 10 * 250
        await worker.at(330)
        assert len(world.bus.arrived["dst_acme"]) == len(set(world.bus.arrived["dst_acme"])) == 3000
        assert world.topics.written == []
        assert worker.commit()[P0] == 3000
        worker.check_all_committed()


@pytest.mark.parametrize(("progressing", "tier"), [(True, "10s"), (False, "30m")])
@in_virtual_time
async def test_a_higher_tiers_delivery_waits_its_turn(*, progressing: bool, tier: str) -> None:
    world = World(narrow("acme", 3))
    taken = in_turn(SLOW_DOWN, take_all if progressing else SLOW_DOWN)
    world.bus.answer(lambda batch: taken(batch) if "500" in keys(batch) else SLOW_DOWN)
    retry = RETRY._replace(topic="pushrail.retry.2m")
    async with world.worker(owns=[P0, retry], batches=lane_limits(hold_secs=3)) as worker:
        await worker.feed_until(1, record(500))
        assert world.bus.arrived == ({"dst_acme": ["500"]} if progressing else {})
        # The throttled call before keeps the lane, so that it knows.
        worker.feed_retries(retry_record(0, partition=retry))
        await worker.at(12)
        moved = {origin: (to, reason) for _, origin, to, reason in world.topics.moved()}
        assert moved["0"] == (tier, "throttled")


@in_virtual_time
async def test_the_documents_rate_counts_while_throttled() -> None:
    dice = random.Random(7)
    world = World(narrow("acme", 8, per_second=4))
    world.bus.answer(lambda batch: take_all(batch) if dice.random() < 0.5 else SLOW_DOWN)
    async with world.worker() as worker:
        await worker.feed_until(60, *records(range(300)))
        made = [at for at, _ in world.bus.made()]
        assert min(after - before for before, after in pairwise(made)) >= 0.25 - 1e-6
        assert worker.commit() == {P0: 300}


@in_virtual_time
async def test_one_throttled_entry_is_repeated_alone() -> None:
    world = World(destination())
    world.bus.answer(in_turn(lambda batch: answered(batch, {"3": fault("ThrottlingException")}), take_all))
    async with world.worker() as worker:
        await worker.feed_until(5, *records(range(10)))
        assert world.bus.made() == [(0.0, TEN), (0.11, ["3"])]
        assert [slowed.in_flight for slowed in worker.reported(Slowed)] == [4]
        assert worker.commit() == {P0: 10}


@in_virtual_time
async def test_a_partly_throttled_bus_gets_no_pauses() -> None:
    world = World(narrow("acme", 1))
    world.bus.answer(lambda batch: answered(batch, {keys(batch)[-1]: fault("ThrottlingException")}))
    async with world.worker() as worker:
        await worker.feed_until(0.5, *records(range(200)))
        # One of ten, and a hundredth of a second a call.
        assert len(world.bus.arrived["dst_acme"]) >= 180


@in_virtual_time
async def test_a_throttled_entry_climbs_no_tier() -> None:
    dice = random.Random(1)
    world = World(destination())
    world.bus.answer(lambda b: answered(b, {k: fault("ThrottlingException") for k in keys(b) if dice.random() < 0.7}))
    async with world.worker(poll_secs=0.5) as worker:
        for tenth in range(100):
            await worker.at(tenth / 10)
            worker.feed(*records(range(3 * tenth, 3 * tenth + 3)))
        await worker.at(300)
        assert {(tier, reason) for _, _, tier, reason in world.topics.moved()} <= {("10s", "throttled")}
        assert sorted(world.bus.arrived["dst_acme"], key=int) == [str(n) for n in range(300)]


@in_virtual_time
async def test_one_failed_call_does_not_slow() -> None:
    world = World(destination(), answer=in_turn(failed("503", 503), take_all, failed("503", 503), take_all))
    async with world.worker() as worker:
        for number in range(4):
            await worker.feed_until(1 + number, record(number))
        assert worker.reported(Slowed) == []
        assert len(world.bus.arrived["dst_acme"]) == 4


@pytest.mark.parametrize("reply", [failed("503", 503), failed("ConnectionFailed"), failed("InternalException", 500)])
@in_virtual_time
async def test_two_failed_calls_slow_like_a_throttle(reply: CallReply) -> None:
    world = World(destination(), answer=in_turn(*[reply] * 6, take_all))
    async with world.worker() as worker:
        await worker.feed_until(9, *records(range(10)))
        assert [slowed.in_flight for slowed in worker.reported(Slowed)] == [4, 2, 1, 2]


@in_virtual_time
async def test_a_failed_sign_in_slows_nothing() -> None:
    world = World(destination(), answer=in_turn(*[failed("503", 503, operation="AssumeRole")] * 4, take_all))
    async with world.worker() as worker:
        await worker.feed_until(9, *records(range(10)))
        assert worker.reported(Slowed) == []


@in_virtual_time
async def test_a_lowered_limit_counts_immediately() -> None:
    world = World(destination(), latency=1.0)
    world.bus.answer(lambda batch: SLOW_DOWN if virtual_loop().elapsed < 1 else take_all(batch))
    async with world.worker() as worker:
        await worker.feed_until(0.5, *records(range(160)))
        world.directory.put_untold(narrow("acme", 2))
        await worker.at(9)
        assert Counter(at for at, _ in world.bus.made()) == {0: 8, **dict.fromkeys(range(1, 9), 2)}


@in_virtual_time
async def test_a_slow_destination_is_remembered() -> None:
    world = World(destination(), answer=in_turn(SLOW_DOWN, take_all), latency=1.0)
    async with world.worker() as worker:
        await worker.feed_until(60, *records(range(10)))
        assert worker.lanes == 1
        await worker.feed_until(60.5, *records(range(10, 90)))
        # Four at a time, and one call had gone through.
        assert world.bus.in_flight["dst_acme"] == 4
        await worker.at(120)
        assert worker.lanes == worker.engine.stats().dispatcher.slowed == 1
        await worker.at(124)
        assert worker.lanes == worker.engine.stats().dispatcher.slowed == 0
        await worker.feed_until(124.5, *records(range(90, 170)))
        assert world.bus.in_flight["dst_acme"] == 8


class Tokens:
    """A bus with a quota of calls a second, and by default of as many at once."""

    def __init__(self, per_second: int, at_once: int | None = None) -> None:
        self._per_second, self._max_calls = per_second, at_once or per_second
        self._left, self._at = float(self._max_calls), 0.0

    def answer(self, batch: Batch) -> CallReply:
        now = virtual_loop().elapsed
        self._left = min(self._max_calls, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return SLOW_DOWN
        self._left -= 1
        return take_all(batch)
