from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final, final

import pytest

from pushrail_stream.core.delivery import Replay
from pushrail_stream.core.outcome import Delivered, Rejected, Retryable, Throttled
from pushrail_stream.core.record import Record
from pushrail_stream.core.retry import DeadLetter, RetryInMemory, Settled
from pushrail_stream.core.signals import Backpressure, CopyFailed, DeadLettered, Skipped
from pushrail_stream.observe.attempts import AttemptsLog
from tests.support.builders import destination, narrow
from tests.support.pipeline_world import HANGS, World
from tests.support.policy import lane_limits
from tests.support.records import (
    DLQ,
    EVENTS,
    RETRY,
    START_MS,
    always,
    answered,
    failed,
    fault,
    in_turn,
    raw,
    record,
    retry_record,
    take_all,
)
from tests.support.signals import AT_MS, attempted, changed, event_of, letter
from tests.support.virtual_time import in_virtual_time

CONTRACT: Final = frozenset(
    [
        "attemptId",
        "at",
        "durationMs",
        "vendor",
        "customerExternalId",
        "destinationId",
        "eventType",
        "idempotencyKey",
        "correlationId",
        "trigger",
        "attempt",
        "status",
        "reason",
        "code",
        "message",
        "httpStatus",
        "requestId",
        "eventBridgeEventId",
        "batchSize",
        "batchIndex",
        "entryBytes",
        "busArn",
        "origin",
        "nextAttemptAt",
        "replayId",
    ]
)
"""The fields of an attempt record (CONTRACTS.md, "The attempt record")."""


@final
class KeptLog:
    def __init__(self) -> None:
        self.raw: list[tuple[str, dict[str, Any]]] = []

    def append(self, key: bytes, *values: bytes) -> None:
        self.raw += [(key.decode(), json.loads(value)) for value in values]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records, without their ids, which have to be there and all different."""
        ids = [record["attemptId"] for _, record in self.raw]
        assert len(set(ids)) == len(ids)
        assert all(record.keys() <= CONTRACT for _, record in self.raw)
        return [{name: value for name, value in record.items() if name != "attemptId"} for _, record in self.raw]


EVENT_0 = {
    "vendor": "acme",
    "customerExternalId": "acct_acme",
    "eventType": "order.completed",
    "idempotencyKey": "0",
    "correlationId": None,
    "origin": {"topic": EVENTS, "partition": 0, "offset": 0},
}
CALL = {
    "at": "2026-05-28T20:26:40.000Z",
    "durationMs": 12.346,
    "destinationId": "dst_acme",
    "busArn": "arn:aws:events:us-east-1:123456789012:event-bus/bus-acme",
    "trigger": "live",
    "attempt": 2,
    "httpStatus": 200,
    "requestId": "request-1",
}


def test_a_record_names_its_topics_id() -> None:
    log = KeptLog()
    call = attempted((Delivered("event-1"), Settled()))
    known = call.deliveries[0].record._replace(topic_id="xTz2mJGYQ9uP8cVd0eLw3A")
    AttemptsLog(log.append)(changed(call, record=known))
    assert log.records[0]["origin"] == {
        "topic": EVENTS, "partition": 0, "offset": 0, "topicId": "xTz2mJGYQ9uP8cVd0eLw3A",
    }  # fmt: skip


def test_one_record_per_entry_tells_its_outcome() -> None:
    log = KeptLog()
    AttemptsLog(log.append)(
        attempted(
            (Delivered("event-1"), Settled()),
            (Retryable("InternalFailure", "try again"), RetryInMemory(1.5, "retryable")),
            (Throttled("ThrottlingException", "slower"), RetryInMemory(0.0, "throttled")),
            (Rejected("MalformedDetail", "no JSON"), DeadLetter("rejected", "MalformedDetail", "no JSON")),
        )
    )
    assert log.records[0] == EVENT_0 | CALL | {
        "batchSize": 4,
        "batchIndex": 0,
        "entryBytes": 100,
        "status": "delivered",
        "eventBridgeEventId": "event-1",
    }
    told = [
        {name: record.get(name) for name in ("status", "reason", "code", "message", "nextAttemptAt")}
        for record in log.records[1:]
    ]
    assert told == [
        {
            "status": "retrying",
            "reason": "retryable",
            "code": "InternalFailure",
            "message": "try again",
            "nextAttemptAt": "2026-05-28T20:26:41.512Z",
        },
        {
            "status": "retrying",
            "reason": "throttled",
            "code": "ThrottlingException",
            "message": "slower",
            "nextAttemptAt": "2026-05-28T20:26:40.012Z",
        },
        {
            "status": "dead_lettered",
            "reason": "rejected",
            "code": "MalformedDetail",
            "message": "no JSON",
            "nextAttemptAt": None,
        },
    ]
    assert [(record["batchIndex"], record["entryBytes"]) for record in log.records] == [
        (0, 100), (1, 101), (2, 102), (3, 103),
    ]  # fmt: skip
    assert {key for key, _ in log.raw} == {"dst_acme"}


def test_the_attempt_ids_of_one_call_share_a_prefix() -> None:
    log = KeptLog()
    AttemptsLog(log.append)(attempted(*[(Delivered("e"), Settled())] * 3))
    calls, positions = zip(*(record["attemptId"].rsplit("-", 1) for _, record in log.raw), strict=True)
    assert len(set(calls)) == 1
    assert positions == ("0", "1", "2")


def test_no_two_workers_and_no_two_starts_of_one_use_the_same_ids() -> None:
    log = KeptLog()
    for _ in range(2):
        observe = AttemptsLog(log.append)
        for _ in range(3):
            observe(attempted((Delivered("e"), Settled())))
        observe(Skipped(event_of(record(0)), record(0).origin, None, None, "no_destination", "live", AT_MS))
    assert len(log.records) == 8, "the ids are all different"


def test_a_call_without_reply_has_no_status() -> None:
    log = KeptLog()
    outcome = Retryable("ReadTimeoutError", "no reply in 5 s")
    AttemptsLog(log.append)(attempted((outcome, RetryInMemory(1, "retryable")), http_status=None, request_id=None))
    assert log.records[0]["httpStatus"] is None
    assert log.records[0]["requestId"] is None


def test_only_a_delivered_entry_settles() -> None:
    with pytest.raises(AssertionError):
        AttemptsLog(KeptLog().append)(attempted((Retryable("503", ""), Settled())))


def test_a_skipped_event_has_a_record() -> None:
    log = KeptLog()
    observe = AttemptsLog(log.append)
    event, origin = event_of(record(0)), record(0).origin
    observe(Skipped(event, origin, destination().id, destination().bus.arn, "disabled", "live", AT_MS))
    observe(Skipped(event, origin, None, None, "no_destination", "live", AT_MS))
    unsent = {"at": "2026-05-28T20:26:40.000Z", "trigger": "live", "attempt": 0, "status": "skipped"}
    assert log.records == [
        EVENT_0 | unsent | {"reason": "disabled", "destinationId": CALL["destinationId"], "busArn": CALL["busArn"]},
        EVENT_0 | unsent | {"reason": "no_destination"},
    ]
    assert [key for key, _ in log.raw] == ["dst_acme", "acct_acme"]


def test_an_unsent_dead_letter_has_a_record() -> None:
    log = KeptLog()
    observe = AttemptsLog(log.append)
    observe(DeadLettered(letter("oversize", "EntryTooLarge", "too large", to="dst_acme"), event_of(record(7))))
    observe(DeadLettered(letter("rejected", "NoDestination", "nobody"), event_of(record(7))))
    poison = record(7)._replace(value=b"poison")
    observe(DeadLettered(replace(letter("undecodable", "value", "no JSON"), record=poison), None))
    origin = {"topic": EVENTS, "partition": 0, "offset": 7}
    dead = {"at": CALL["at"], "trigger": "live", "attempt": 0, "status": "dead_lettered"}
    event = EVENT_0 | {"idempotencyKey": "7", "origin": origin} | dead
    assert log.records == [
        event | {
            "destinationId": "dst_acme", "reason": "oversize", "code": "EntryTooLarge", "message": "too large",
        },
        event | {"destinationId": None, "reason": "rejected", "code": "NoDestination", "message": "nobody"},
        dead | {
            "origin": origin, "destinationId": None, "reason": "undecodable", "code": "value", "message": "no JSON",
        },
    ]  # fmt: skip
    assert [key for key, _ in log.raw] == ["dst_acme", "acct_acme", ""]


def test_a_malformed_event_carries_the_fields_that_can_be_read() -> None:
    log = KeptLog()
    malformed = replace(
        letter("undecodable", "payload", "is missing"),
        record=record(7)._replace(value=b'{"idempotencyKey": 7, "customerExternalId": "acct_acme", "eventType": null}'),
    )
    AttemptsLog(log.append)(DeadLettered(malformed, None))
    [told] = log.records
    assert {name: told[name] for name in ("customerExternalId", "idempotencyKey", "origin")} == {
        "customerExternalId": "acct_acme", "idempotencyKey": "7",
        "origin": {"topic": "pushrail.events", "partition": 0, "offset": 7},
    }  # fmt: skip
    assert not {"eventType", "correlationId", "vendor"} & told.keys()
    assert [key for key, _ in log.raw] == ["acct_acme"]


def test_other_signals_write_no_record() -> None:
    log = KeptLog()
    observe = AttemptsLog(log.append)
    dead = replace(letter("blocked", "AccessDenied", "no", attempts=1, to="dst_acme"), reported=True)
    observe(DeadLettered(dead, event_of(record(7))))  # its attempt has told of it
    observe(CopyFailed(dead, "no", 1.0))
    observe(Backpressure(on=True, events=1, bytes=1))
    assert log.raw == []


def test_an_unsent_dead_letter_names_its_bus() -> None:
    log = KeptLog()
    dead = replace(
        letter("suspended", "AccessDenied", "no", attempts=3, to="dst_acme"),
        replay=Replay("rp-1", 2), trigger="replay", bus="arn:x",
    )  # fmt: skip
    AttemptsLog(log.append)(DeadLettered(dead, event_of(record(7))))
    [told] = log.records
    said = {name: told[name] for name in ("status", "trigger", "replayId", "busArn", "attempt")}
    assert said == {
        "status": "dead_lettered", "trigger": "replay", "replayId": "rp-1", "busArn": "arn:x", "attempt": 0,
    }  # fmt: skip


def back(offset: int, **changes: Any) -> Record:
    """A record from a retry topic after three attempts, the first of them two days ago."""
    return retry_record(offset, event=offset, first_attempt_at_ms=START_MS - 2 * 86_400_000, **changes)


def blocks(world: World) -> None:
    world.bus.answer(always(failed("AccessDeniedException", 400)))


def hangs(world: World) -> None:
    world.bus.latency = lambda _batch: HANGS


def works(_world: World) -> None:
    pass


def is_gone(world: World) -> None:
    world.bus.bus_status["dst_acme"] = "gone"


@pytest.mark.parametrize(
    ("bus", "live", "retried", "reasons"),
    [
        (blocks, range(100, 105), [back(n) for n in range(20)], {"blocked": 5, "suspended": 20}),
        (blocks, (), [back(n) for n in range(20)], {"blocked": 5, "suspended": 15}),
        (hangs, (), [back(n) for n in range(20)], {"expired": 20}),
        (is_gone, [100], [back(n) for n in range(3)], {"blocked": 4}),
        (works, (), [back(0, padding=1_100_000)], {"oversize": 1}),
        (works, (), [back(0)._replace(value=b"poison")], {"undecodable": 1}),
    ],
    ids=["suspended", "suspended meanwhile", "not sent in time", "bus missing", "oversize", "undecodable"],
)
@in_virtual_time
async def test_every_end_of_a_delivery_has_one_record(
    bus: Callable[[World], None], live: Iterable[int], retried: list[Record], reasons: dict[str, int]
) -> None:
    log, world = KeptLog(), World(narrow("acme", 1))
    bus(world)
    async with world.worker(observe=AttemptsLog(log.append), batches=lane_limits(max_entries=1)) as worker:
        worker.assign(RETRY)
        await worker.feed_until(5, *(record(n) for n in live))
        worker.feed_retries(*retried)
        await worker.at(100)
        letters = [(w.said["pushrail-origin"], w.said["pushrail-reason"]) for w in world.topics.on(DLQ)]
        assert Counter(reason for _, reason in letters) == reasons
        ends = [record for record in log.records if record["status"] == "dead_lettered"]
        told = [("{topic}/{partition}/{offset}".format(**end["origin"]), end["reason"]) for end in ends]
        assert sorted(told) == sorted(letters)
        assert {end["trigger"] for end in ends if end["origin"]["offset"] < 100} == {"retry"}


@in_virtual_time
async def test_every_event_and_attempt_has_one_record() -> None:
    log = KeptLog()
    world = World(destination(), destination("off", enabled=False), destination("blocked"))
    world.bus.answer(in_turn(lambda batch: answered(batch, {"1": fault("InternalFailure")}), take_all))
    world.bus.answer(always(failed("AccessDeniedException", 400)), "dst_blocked")
    async with world.worker(observe=AttemptsLog(log.append)) as worker:
        worker.feed(record(0), record(1), record(2, "off"), record(3, "blocked"), raw(4, b"poison"), record(5, "none"))
        await worker.at(5)
        told = sorted((r["origin"]["offset"], r["attempt"], r["status"], r.get("reason")) for r in log.records)
        assert told == [
            (0, 1, "delivered", None),
            (1, 1, "retrying", "retryable"),
            (1, 2, "delivered", None),
            (2, 0, "skipped", "disabled"),
            (3, 1, "dead_lettered", "blocked"),
            (4, 0, "dead_lettered", "undecodable"),
            (5, 0, "skipped", "no_destination"),
        ]
        retried = next(r for r in log.records if r["status"] == "retrying")
        again = next(r for r in log.records if r["attempt"] == 2)
        assert retried["nextAttemptAt"] == again["at"]
