"""Dead letters: their content, and the consequences while Kafka refuses them."""

from __future__ import annotations

from pushrail_stream.core.commit import Committable
from pushrail_stream.core.signals import CopyFailed, DeadLettered
from tests.support.builders import destination, narrow
from tests.support.pipeline_world import HANGS, World
from tests.support.policy import retry_policy
from tests.support.records import (
    DLQ,
    EVENTS,
    P0,
    RETRY,
    always,
    answered,
    failed,
    fault,
    raw,
    record,
    records,
    retry_record,
)
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_a_dead_letter_has_the_record_and_its_reason() -> None:
    world = World(destination())
    world.bus.answer(always(failed("AccessDeniedException", 400, "User AKIAIOSFODNN7EXAMPLE is not authorized")))
    own = (("traceparent", b"garbage"), ("null", None), ("pushrail-reason", b"an older letter's"))
    async with world.worker() as worker:
        await worker.feed_until(1, given := record(7, headers=own))
        (letter,) = world.topics.written
        assert (letter.topic, letter.key, letter.value) == ("pushrail.dlq", given.key, given.value)
        assert letter.headers[:2] == own[:2]
        assert letter.said == {
            "traceparent": "garbage",
            "null": "",
            "pushrail-destination": "dst_acme",
            "pushrail-origin": f"{EVENTS}/0/7",
            "pushrail-attempts": "1",
            "pushrail-first-attempt-at": "2026-05-28T20:26:40.100Z",
            "pushrail-failed-at": "2026-05-28T20:26:40.110Z",
            "pushrail-reason": "blocked",
            "pushrail-error-code": "AccessDeniedException",
            "pushrail-error-message": "User AKIAIO*** is not authorized",
            "pushrail-request-id": "request-400",
            "__connect.errors.topic": EVENTS,
            "__connect.errors.partition": "0",
            "__connect.errors.offset": "7",
            "__connect.errors.exception.message": "blocked: AccessDeniedException: User AKIAIO*** is not authorized",
        }
        assert len(letter.headers) == 15
        assert [type(signal) for signal in worker.reported(DeadLettered)] == [DeadLettered]


@in_virtual_time
async def test_a_refused_dead_letter_blocks_the_commit() -> None:
    world = World(destination())
    world.topics.refuse = lambda: True
    world.bus.answer(lambda batch: answered(batch, {"3": fault("MalformedDetail")}))
    async with world.worker() as worker:
        await worker.feed_until(60, *records(range(10)))
        await worker.feed_until(61, *records(range(10, 20)))
        assert len(world.bus.arrived["dst_acme"]) == 19
        assert worker.commit() == {P0: 3}
        assert (worker.ledger.dead_lettered, worker.ledger.in_flight) == (0, 1)
        # Pauses of 0.75 of 1, 2, 4, 8, 10, 10 .. s, and 2 ms each to be refused.
        assert world.topics.refused == [
            0.012,
            0.764,
            2.266,
            5.268,
            11.27,
            18.772,
            26.274,
            33.776,
            41.278,
            48.78,
            56.282,
        ]
        failures = [signal for signal in worker.signals if isinstance(signal, CopyFailed)]
        assert {signal.problem for signal in failures} == {"pushrail.dlq: not enough in-sync replicas"}
        assert [signal.retry_in_secs for signal in failures] == [0.75, 1.5, 3.0, 6.0, *[7.5] * 7]
        world.topics.refuse = lambda: False
        await worker.at(70)
        assert world.topics.dead() == [("3", "rejected")]
        assert worker.commit() == {P0: 20}


@in_virtual_time
async def test_a_slow_dlq_delays_no_delivery() -> None:
    world = World(destination())
    world.topics.latency = HANGS
    async with world.worker() as worker:
        await worker.feed_until(0.05, raw(0, b"poison"), *records(range(1, 11)))
        assert world.bus.made() == [(0.0, [str(n) for n in range(1, 11)])]
        assert worker.commit() == {P0: 0}


@in_virtual_time
async def test_a_revoked_dead_letter_is_abandoned() -> None:
    world = World(destination())
    world.topics.refuse = lambda: True
    async with world.worker() as worker:
        await worker.feed_until(0.5, raw(0, b"poison"))
        await worker.give_back(P0)
        # It was written once more, at the end of its pause, and then left.
        assert world.topics.refused == [0.002, 0.754]
        assert (worker.ledger.dropped, worker.ledger.in_flight) == (1, 0)
        assert len(worker.in_flight) == 0
        assert world.group == {P0: Committable(0, "")}
    world.topics.refuse = lambda: False
    async with world.worker() as next_owner:
        await next_owner.feed_until(5, raw(0, b"poison"))
        assert world.topics.dead() == [("0", "undecodable")]
        assert next_owner.commit() == {P0: 1}


@in_virtual_time
async def test_a_delivery_that_waits_behind_our_own_fault_does_not_expire() -> None:
    world = World(narrow("acme", 1, per_second=0.1))
    world.bus.answer(always(failed("InvalidClientTokenId", 403, operation="AssumeRole")))
    async with world.worker(owns=[RETRY], policy=retry_policy(max_age_secs=1)) as worker:
        worker.feed_retries(*(retry_record(n, event=n, attempts=0) for n in range(30)))
        await worker.at(30)
        assert world.topics.on(DLQ) == []
        copies = {copy.origin: copy.said for copy in world.topics.written}
        assert len(copies) == 30
        assert {said["pushrail-error-code"] for said in copies.values()} == {"InvalidClientTokenId"}
        assert {"held", "retryable"} == {said["pushrail-reason"] for said in copies.values()}
