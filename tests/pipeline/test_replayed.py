"""Replays keep their trigger and id through every hop, and probe suspended destinations."""

from __future__ import annotations

import pytest

from pushrail_stream.core.record import Partition, Record
from pushrail_stream.core.signals import Attempted, Resumed, Skipped, Suspended
from tests.support.builders import destination, narrow
from tests.support.pipeline_world import World
from tests.support.records import (
    RETRY,
    Answer,
    always,
    answered,
    failed,
    fault,
    in_turn,
    records,
    retry_record,
    take_all,
)
from tests.support.virtual_time import in_virtual_time

PARTITION = Partition(RETRY.topic, 1)
"""A partition that gets no copies of this customer's."""
BLOCKED = failed("AccessDeniedException", 400)


def replayed(offset: int, event: int, count: int = 1) -> Record:
    """A copy as a replay makes it: never tried, and due."""
    return retry_record(
        offset,
        event=event,
        partition=PARTITION,
        attempts=0,
        reason="held",
        first_attempt_at_ms=None,
        replay="rp-1",
        replay_count=count,
    )


@in_virtual_time
async def test_a_replay_is_told_apart_from_a_retry() -> None:
    world = World(destination())
    async with world.worker(poll_secs=0.1) as worker:
        worker.feed_retries(replayed(0, 0), retry_record(1, event=1))
        await worker.at(1)
        entries = [entry for call in worker.reported(Attempted) for entry in call.entries]
        assert [(e.trigger, e.replay_id, e.attempt) for e in entries] == [("replay", "rp-1", 1), ("retry", None, 4)]


@in_virtual_time
async def test_copies_of_a_replay_name_the_replay() -> None:
    world = World(destination())
    world.bus.answer(lambda batch: answered(batch, {"0": fault("MalformedDetail"), "1": fault("InternalFailure")}))
    async with world.worker(poll_secs=0.1) as worker:
        worker.feed_retries(replayed(0, 0, count=2), replayed(1, 1, count=2))
        await worker.at(15)
        said = {w.origin: (w.said["pushrail-replay"], w.said["pushrail-replay-count"]) for w in world.topics.written}
        assert said == {"0": ("rp-1", "2"), "1": ("rp-1", "2")}


@in_virtual_time
async def test_a_skipped_replay_names_the_replay() -> None:
    world = World()
    async with world.worker(poll_secs=0.1) as worker:
        worker.feed_retries(replayed(0, 0))
        await worker.at(1)
        [skipped] = worker.reported(Skipped)
        assert isinstance(skipped, Skipped)
        assert (skipped.reason, skipped.trigger, skipped.replay_id) == ("deleted", "replay", "rp-1")


@in_virtual_time
async def test_a_repaired_bus_takes_the_whole_replay() -> None:
    world = World(narrow("acme", 1), answer=in_turn(*[BLOCKED] * 5, take_all))
    async with world.worker(poll_secs=0.1) as worker:
        await worker.feed_until(10, *records(range(60)))
        assert len(worker.reported(Suspended)) == 1
        dead = len(world.topics.dead())
        assert dead == 60
        worker.feed_retries(*(replayed(n, n) for n in range(60)))
        await worker.at(11)
        # One of them is the probe, though the next was due at 30 s; the others wait for its answer.
        assert len(worker.reported(Resumed)) == 1
        assert len(world.topics.dead()) == dead
        assert sorted(world.bus.arrived["dst_acme"], key=int) == [str(n) for n in range(60)]
        assert world.topics.moved() == []


@in_virtual_time
async def test_a_blocked_replay_probes_once() -> None:
    world = World(destination(), answer=always(BLOCKED))
    async with world.worker(poll_secs=0.1) as worker:
        await worker.feed_until(10, *records(range(50)))
        calls = len(world.bus.calls)
        worker.feed_retries(*(replayed(n, n) for n in range(100)))
        await worker.at(12)
        assert len(world.bus.calls) == calls + 1
        # They climb, tier by tier; the probe's own is a dead letter.
        await worker.at(29)
        tiers = [delay for _, _, delay, _ in world.topics.moved()]
        assert (tiers.count("10s"), tiers.count("2m")) == (99, 99)
        replays = [
            w for w in world.topics.written if w.said["pushrail-reason"] == "blocked" and "pushrail-replay" in w.said
        ]
        assert len(replays) == 1


@pytest.mark.parametrize("answer", [failed("503", 503), failed("413", 413)])
@in_virtual_time
async def test_a_replay_in_flight_is_kept(answer: Answer) -> None:
    world = World(destination())
    slow = {"5": 3.0}
    world.bus.latency = lambda batch: slow.get(str(batch.deliveries[0].record.offset), 0.01)
    world.bus.answer(in_turn(answer, *[BLOCKED] * 60))
    async with world.worker(poll_secs=0.1) as worker:
        worker.feed_retries(*(replayed(n, n) for n in range(5, 7)))
        await worker.at(0.3)
        await worker.feed_until(20, *records(range(100, 180)))
        assert len(worker.reported(Suspended)) >= 1
        given_up = {w.said.get("pushrail-reason") for w in world.topics.written if "pushrail-replay" in w.said}
        assert "suspended" not in given_up
