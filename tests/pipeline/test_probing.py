"""Probes of a suspended destination, and the deliveries that wait for them."""

from __future__ import annotations

from typing import Any

import pytest

from pushrail_stream.core.destination import Limits, Secret
from pushrail_stream.core.lane import ROOM
from pushrail_stream.core.signals import Attempted, Resumed, Suspended
from pushrail_stream.settings.eventbridge import AccessKey
from tests.support.builders import destination, modified, narrow
from tests.support.pipeline_world import HANGS, Worker, World
from tests.support.policy import buffer_limits
from tests.support.records import (
    DLQ,
    P0,
    RETRY,
    Answer,
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

BLOCKED = failed("AccessDeniedException", 400)
DOWN = failed("503", 503)


def blocking() -> World:
    """A bus that blocks everything, one call at a time, and one that takes everything."""
    return World(narrow("acme", 1), destination("fine"), answer=always(BLOCKED))


def one_call_late(late: Answer) -> World:
    """Eight calls at a time: five are blocked, and the sixth has its answer when all is over."""
    world = World(destination(), answer=lambda batch: late(batch) if "50" in keys(batch) else BLOCKED)
    world.bus.latency = lambda batch: 0.5 if "50" in keys(batch) else 0.01
    return world


async def suspend(worker: Worker) -> None:
    """Fifty events in five calls: that is enough, after a tenth of a second."""
    await worker.feed_until(0.1, *records(range(50)))
    assert len(worker.reported(Suspended)) == 1


@pytest.mark.parametrize("late", [always(DOWN), always(failed("429", 429)), always(failed("413", 413))])
@in_virtual_time
async def test_calls_in_flight_are_not_repeated(late: Answer) -> None:
    world = one_call_late(late)
    async with world.worker() as worker:
        await worker.feed_until(20, *records(range(60)))
        assert len(world.bus.made()) == 6
        assert world.topics.dead() == [(str(n), "blocked" if n < 50 else "suspended") for n in range(60)]
        assert worker.commit() == {P0: 60}


@in_virtual_time
async def test_a_late_success_ends_the_suspension() -> None:
    world = one_call_late(take_all)
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(60)))
        assert (len(worker.reported(Suspended)), len(worker.reported(Resumed))) == (1, 1)
        await worker.feed_until(2, record(60))
        assert len(world.bus.made()) == 7


@in_virtual_time
async def test_a_call_in_flight_still_renews_credentials() -> None:
    world = one_call_late(in_turn(failed("ExpiredToken", 400), take_all))
    async with world.worker() as worker:
        await worker.feed_until(0.3, *records(range(60)))
        world.bus.sessions_are_old = True
        await worker.at(2)
        assert len(world.bus.arrived["dst_acme"]) == 10
        assert len(worker.reported(Resumed)) == 1


@in_virtual_time
async def test_a_call_before_the_suspension_is_no_probe() -> None:
    world = one_call_late(always(BLOCKED))
    async with world.worker() as worker:
        await worker.feed_until(20, *records(range(60)))
        assert [(told.first, told.probe_in_secs) for told in worker.reported(Suspended)] == [(True, 30)]
        assert {reason for _, reason in world.topics.dead()} == {"blocked"}


@in_virtual_time
async def test_a_waiting_retry_keeps_its_error() -> None:
    world = blocking()
    world.bus.answer(in_turn(DOWN, BLOCKED))
    async with world.worker(jitter=lambda: 0.999) as worker:
        await worker.feed_until(1, *records(range(60)))
        said = {letter.origin: letter.said for letter in world.topics.on(DLQ)}
        assert said["5"]["pushrail-reason"] == "suspended"
        assert (said["5"]["pushrail-error-code"], said["5"]["pushrail-attempts"]) == ("503", "1")
        assert worker.commit() == {P0: 60}


@in_virtual_time
async def test_single_blocked_entries_do_not_suspend() -> None:
    world = blocking()
    blocked = fault("NotAuthorizedForDetailTypeException")
    world.bus.answer(lambda batch: answered(batch, dict.fromkeys(keys(batch)[1:], blocked)))
    async with world.worker() as worker:
        await worker.feed_until(1, *records(range(100)))
        assert len(world.bus.arrived["dst_acme"]) == 10
        assert worker.reported(Suspended) == []


@in_virtual_time
async def test_a_new_suspension_starts_with_short_pauses() -> None:
    world = blocking()
    async with world.worker() as worker:
        await suspend(worker)
        await worker.at(31)
        await worker.feed_until(100, record(50))
        world.bus.answer(take_all)
        await worker.feed_until(101, record(51))
        world.bus.answer(always(BLOCKED))
        await worker.feed_until(102, *records(range(52, 152)))
        assert len(world.bus.made()) == 5 + 2 + 5
        assert [round(told.probe_in_secs) for told in worker.reported(Suspended)] == [30, 60, 30]


@in_virtual_time
async def test_a_burst_waits_for_the_probes_answer() -> None:
    world = blocking()
    async with world.worker() as worker:
        await suspend(worker)
        world.bus.answer(take_all)
        world.bus.latency = lambda _batch: 0.1
        await worker.at(31)
        await worker.feed_until(31.05, *records(range(50, 250)))
        assert world.bus.made()[5:] == [(31.0, ["50"])], "the probe is one delivery, and the only call"
        await worker.at(35)
        assert len(world.bus.arrived["dst_acme"]) == 200
        assert len(world.topics.dead()) == 50, "from before"
        assert worker.commit() == {P0: 250}


@in_virtual_time
async def test_a_failed_probe_refuses_the_queue() -> None:
    world = blocking()
    world.bus.latency = lambda _batch: 1.0 if virtual_loop().elapsed > 30 else 0.01
    async with world.worker() as worker:
        await suspend(worker)
        await worker.at(31)
        await worker.feed_until(31.5, *records(range(50, 60)))
        await worker.feed_until(33, *records(range(60, 70)))
        await worker.feed_until(34, record(70))
        assert world.bus.made()[5:] == [(31.0, ["50"])]
        assert world.topics.dead()[50:] == [("50", "blocked"), *((str(n), "suspended") for n in range(51, 71))]
        letters = [letter.said for letter in world.topics.on(DLQ) if letter.said["pushrail-reason"] == "suspended"]
        assert {said["pushrail-attempts"] for said in letters} == {"0"}
        assert worker.commit() == {P0: 71}


@in_virtual_time
async def test_the_queue_behind_a_probe_is_bounded() -> None:
    world = blocking()
    world.bus.latency = lambda _batch: HANGS if virtual_loop().elapsed > 30 else 0.01
    async with world.worker() as worker:
        await suspend(worker)
        await worker.at(31)
        for n in range(50, 3050, 100):
            worker.feed(*records(range(n, n + 100)))
            assert worker.engine.stats().dispatcher.waiting <= ROOM
        # All but the probe are a cursor's, which keeps fifty in memory.
        assert worker.engine.stats().dispatcher.waiting == 50
        await worker.at(45)
        assert world.topics.moved() == []
        assert worker.commit() == {P0: 3050}
        world.bus.latency = lambda _batch: 0.01
        world.bus.answer(take_all)
        await worker.at(60)
        assert sorted(map(int, world.bus.arrived["dst_acme"])) == list(range(50, 3050))
        assert len(world.topics.dead()) == 50


@in_virtual_time
async def test_a_hanging_suspended_bus_leaves_room() -> None:
    world = blocking()
    world.bus.latency = lambda batch: HANGS if batch.destination.id == "dst_acme" and len(world.bus.calls) > 5 else 0.01
    async with world.worker(limits=buffer_limits(max_events=600)) as worker:
        await suspend(worker)
        await worker.at(31)
        for tenth in range(100):
            await worker.at(31 + tenth / 10)
            n = 50 + 21 * tenth
            assert not worker.feed(*records(range(n, n + 20)), record(n + 20, "fine")).hold
        await worker.at(50)
        assert len(world.bus.arrived["dst_fine"]) == 100


@in_virtual_time
async def test_a_probe_that_fails_is_retried_alone() -> None:
    world = blocking()
    async with world.worker() as worker:
        await suspend(worker)
        world.bus.answer(in_turn(DOWN, DOWN, take_all))
        await worker.at(31)
        await worker.feed_until(35, *records(range(50, 75)))
        sent = [sent for _, sent in world.bus.made()[5:]]
        assert sent[:3] == [["50"]] * 3
        assert sorted(key for keys in sent[3:] for key in keys) == [str(n) for n in range(51, 75)]
        assert len(world.topics.dead()) == 50
        assert len(worker.reported(Resumed)) == 1
        assert worker.commit() == {P0: 75}


@in_virtual_time
async def test_a_rejected_probe_passes_the_turn_on() -> None:
    world = blocking()
    async with world.worker() as worker:
        await suspend(worker)
        world.bus.answer(lambda batch: answered(batch, dict.fromkeys(["50", "51"], fault("MalformedDetail"))))
        await worker.at(31)
        await worker.feed_until(35, *records(range(50, 60)))
        assert [sent for _, sent in world.bus.made()[5:8]] == [["50"], ["51"], ["52"]]
        assert world.topics.dead()[50:] == [("50", "rejected"), ("51", "rejected")]
        assert len(world.bus.arrived["dst_acme"]) == 8


@in_virtual_time
async def test_a_hanging_probe_moves_to_a_retry_topic() -> None:
    world = blocking()
    async with world.worker() as worker:
        await suspend(worker)
        world.bus.latency = lambda _batch: HANGS
        await worker.at(31)
        await worker.feed_until(42, record(50))
        assert [(origin, reason) for _, origin, _, reason in world.topics.moved()] == [("50", "retryable")]
        world.bus.latency = lambda _batch: 0.01
        world.bus.answer(take_all)
        await worker.feed_until(43, record(51))
        assert world.bus.arrived["dst_acme"] == ["51"]
        assert worker.commit() == {P0: 52}


@pytest.mark.parametrize(
    ("changes", "probes"),
    [
        ({"auth": AccessKey("AKIAIOSFODNN7EXAMPLE", Secret("s"))}, True),
        ({"bus": "arn:aws:events:us-east-1:123456789012:event-bus/other"}, True),
        ({"region": "eu-west-1"}, True),
        ({"name": "renamed"}, False),
        ({"limits": Limits(5, 2)}, False),
    ],
)
@in_virtual_time
async def test_only_a_new_way_to_the_bus_is_probed_at_once(changes: dict[str, Any], *, probes: bool) -> None:
    world = blocking()
    async with world.worker() as worker:
        await suspend(worker)
        world.bus.answer(take_all)
        world.directory.put(modified(destination(), **changes))
        await worker.at(1)
        await worker.feed_until(2, record(50))
        assert world.bus.arrived == ({"dst_acme": ["50"]} if probes else {})
        assert len(worker.reported(Resumed)) == int(probes)


@in_virtual_time
async def test_suspension_survives_idleness() -> None:
    world = blocking()
    async with world.worker() as worker:
        await suspend(worker)
        await worker.at(1190)
        await worker.feed_until(1200, *records(range(50, 60)))
        # Long enough for one probe, and no more: it is suspended still.
        assert world.bus.made()[5:] == [(1190.0, ["50"])]
        assert world.topics.dead()[50:] == [("50", "blocked"), *((str(n), "suspended") for n in range(51, 60))]


@in_virtual_time
async def test_a_suspension_without_events_ends() -> None:
    world = blocking()
    async with world.worker() as worker:
        await suspend(worker)
        await worker.give_back(P0)
        await worker.at(1190)
        assert worker.engine.stats().dispatcher.suspended == 1
        await worker.at(1300)
        assert worker.lanes == worker.engine.stats().dispatcher.suspended == 0


@in_virtual_time
async def test_a_blocking_destination_stays_suspended() -> None:
    world = blocking()
    async with world.worker() as worker:
        await suspend(worker)
        for n in range(300):
            await worker.feed_until(20.0 * n + 20, record(50 + n))
            assert worker.engine.stats().dispatcher.suspended == 1
        assert len(world.bus.made()) < 25


@in_virtual_time
async def test_blocked_calls_are_remembered_when_idle() -> None:
    world = blocking()
    async with world.worker() as worker:
        await worker.feed_until(1190, *records(range(40)))
        assert worker.reported(Suspended) == []
        await worker.feed_until(1191, record(40))
        assert len(worker.reported(Suspended)) == 1


@in_virtual_time
async def test_a_refused_retry_keeps_its_history() -> None:
    world = blocking()
    async with world.worker(owns=[P0, RETRY]) as worker:
        await suspend(worker)
        worker.feed_retries(
            retry_record(0, event=50, error_code="503", error_message="because"), retry_record(1, "fine", event=51)
        )
        await worker.at(1)
        assert len(world.bus.made()) == 5
        letter = next(letter for letter in world.topics.on(DLQ) if letter.origin == "50")
        assert letter.said["pushrail-reason"] == "suspended"
        assert (letter.said["pushrail-attempts"], letter.said["pushrail-error-code"]) == ("3", "503")
        assert letter.said["pushrail-first-attempt-at"] == "2026-05-28T20:26:25.000Z"
        assert world.bus.arrived == {"dst_fine": ["51"]}
        assert worker.commit() == {P0: 50, RETRY: 2}


@in_virtual_time
async def test_a_retry_may_be_the_probe() -> None:
    world = blocking()
    async with world.worker(owns=[P0, RETRY]) as worker:
        await suspend(worker)
        world.bus.answer(take_all)
        await worker.at(31)
        worker.feed_retries(retry_record(0, event=50))
        await worker.at(32)
        assert world.bus.arrived == {"dst_acme": ["50"]}
        assert [entry.trigger for entry in worker.reported(Attempted)[-1].entries] == ["retry"]
        assert len(worker.reported(Resumed)) == 1


@in_virtual_time
async def test_a_revoked_probe_is_replaced() -> None:
    world = blocking()
    async with world.worker() as worker:
        await suspend(worker)
        await worker.at(31)
        worker.feed(record(50))
        await worker.give_back(P0)
        assert (worker.ledger.dropped, len(world.bus.made())) == (1, 5)
        worker.assign(P0)
        await worker.feed_until(32, record(50))
        assert len(world.bus.made()) == 6
