from __future__ import annotations

import json
from typing import Any, Final, final

import pytest

from pushrail_stream.core.outcome import Delivered, Rejected, Retryable, Throttled
from pushrail_stream.core.retry import Again, Bury, Settle
from pushrail_stream.core.signals import CopyFailed, DeadLettered, Held, Skipped
from pushrail_stream.observe.attempts import AttemptsLog
from tests.observe.signals import AT_MS, attempted, event_of, letter
from tests.pipeline.records import EVENTS, always, answered, destination, failed, fault, in_turn, raw, record, take_all
from tests.pipeline.world import World
from tests.virtual_time import in_virtual_time

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
"""The fields of an attempt record (contract 3.6)."""


@final
class KeptLog:
    def __init__(self) -> None:
        self.raw: list[tuple[str, dict[str, Any]]] = []

    def append(self, key: bytes, value: bytes) -> None:
        self.raw.append((key.decode(), json.loads(value)))

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records, without their ids, which have to be there and all different."""
        ids = [record["attemptId"] for _, record in self.raw]
        assert len(set(ids)) == len(ids)
        assert all(record.keys() <= CONTRACT for _, record in self.raw)
        return [{name: value for name, value in record.items() if name != "attemptId"} for _, record in self.raw]


EVENT_0 = {
    "vendor": "pushrail",
    "customerExternalId": "acme",
    "eventType": "order.created",
    "idempotencyKey": "0",
    "correlationId": None,
    "origin": {"topic": EVENTS, "partition": 0, "offset": 0},
}
CALL = {
    "at": "2026-05-28T20:26:40.000Z",
    "durationMs": 12.346,
    "destinationId": "dst_acme",
    "busArn": "arn:aws:events:us-east-1:123456789012:event-bus/dst_acme",
    "trigger": "live",
    "attempt": 2,
    "httpStatus": 200,
    "requestId": "request-1",
}


def test_one_record_per_entry_says_what_was_sent_and_what_became_of_it() -> None:
    log = KeptLog()
    AttemptsLog(log)(
        attempted(
            (Delivered("event-1"), Settle()),
            (Retryable("InternalFailure", "try again"), Again(1.5, "retryable")),
            (Throttled("ThrottlingException", "slower"), Again(0.0, "throttled")),
            (Rejected("MalformedDetail", "no JSON"), Bury("rejected", "MalformedDetail", "no JSON")),
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


def test_the_ids_of_one_call_show_that_they_belong_together() -> None:
    log = KeptLog()
    AttemptsLog(log)(attempted(*[(Delivered("e"), Settle())] * 3))
    calls, positions = zip(*(record["attemptId"].rsplit("-", 1) for _, record in log.raw), strict=True)
    assert len(set(calls)) == 1
    assert positions == ("0", "1", "2")


def test_a_call_that_got_no_reply_has_neither_status_nor_request_id() -> None:
    log = KeptLog()
    outcome = Retryable("ReadTimeoutError", "no reply in 5 s")
    AttemptsLog(log)(attempted((outcome, Again(1, "retryable")), http_status=None, request_id=None))
    assert log.records[0]["httpStatus"] is None
    assert log.records[0]["requestId"] is None


def test_only_what_was_delivered_settles() -> None:
    with pytest.raises(AssertionError):
        AttemptsLog(KeptLog())(attempted((Retryable("503", ""), Settle())))


def test_an_event_that_is_not_sent_is_told_of_too() -> None:
    log = KeptLog()
    observe = AttemptsLog(log)
    event, origin = event_of(record(0)), record(0).origin
    observe(Skipped(event, origin, destination().id, destination().bus_arn, "disabled", "live", AT_MS))
    observe(Skipped(event, origin, None, None, "no_destination", "live", AT_MS))
    unsent = {"at": "2026-05-28T20:26:40.000Z", "trigger": "live", "attempt": 0, "status": "skipped"}
    assert log.records == [
        EVENT_0 | unsent | {"reason": "disabled", "destinationId": CALL["destinationId"], "busArn": CALL["busArn"]},
        EVENT_0 | unsent | {"reason": "no_destination"},
    ]
    assert [key for key, _ in log.raw] == ["dst_acme", "acme"]


def test_a_dead_letter_that_was_never_sent_is_told_of_once_kafka_has_it() -> None:
    log = KeptLog()
    observe = AttemptsLog(log)
    observe(DeadLettered(letter("oversize", "EntryTooLarge", "too large", to="dst_acme"), event_of(record(7))))
    observe(DeadLettered(letter("rejected", "NoDestination", "nobody"), event_of(record(7))))
    observe(DeadLettered(letter("undecodable", "value", "no JSON"), None))
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
    assert [key for key, _ in log.raw] == ["dst_acme", "acme", ""]


def test_nothing_is_said_twice_and_nothing_about_other_signals() -> None:
    log = KeptLog()
    observe = AttemptsLog(log)
    dead = letter("blocked", "AccessDenied", "no", attempts=1, to="dst_acme")
    observe(DeadLettered(dead, event_of(record(7))))  # its attempt has told of it
    observe(CopyFailed(dead, "no", 1.0))
    observe(Held(on=True, events=1, bytes=1))
    assert log.raw == []


@in_virtual_time
async def test_a_whole_story_has_one_record_per_event_and_attempt() -> None:
    log = KeptLog()
    world = World(destination(), destination("off", enabled=False), destination("blocked"))
    world.bus.answer(in_turn(lambda batch: answered(batch, {"1": fault("InternalFailure")}), take_all))
    world.bus.answer(always(failed("AccessDeniedException", 400)), "dst_blocked")
    async with world.worker(observe=AttemptsLog(log)) as worker:
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
