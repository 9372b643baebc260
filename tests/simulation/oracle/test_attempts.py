"""Attempts records that are not true."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pushrail_stream.core.record import NOT_UTF8
from tests.simulation.oracle.attempts import find_unrecorded, find_untrue_attempts
from tests.simulation.oracle.evidence import WorkerEnd, Written
from tests.simulation.oracle.told import BUS, Told, delivered


def untrue(told: Told) -> list[str]:
    return [
        violation.sentence.partition("dst_one: ")[2] or violation.sentence
        for violation in find_untrue_attempts(told.story)
    ]


def spoilt(**fields: object) -> list[str]:
    """The violations of a record of a delivery with other fields."""
    told, event = delivered()
    told.evidence.written.pop()
    told.attempt(1_002.5, event, told.evidence.calls[0], **fields)
    return untrue(told)


def test_a_record_of_a_delivery_is_true() -> None:
    told, _ = delivered()
    assert untrue(told) == []


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"eventBridgeEventId": "other"}, "the bus gave the id event-id-1-0"),
        ({"status": "retrying"}, "the bus took it in the call request-1"),
        ({"status": "gone"}, "its status is gone"),
        ({"batchSize": 2}, "the call request-1 has 1 entries, not 2"),
        ({"batchIndex": 1}, "the call request-1 has no entry 1"),
        ({"busArn": "other"}, f"the call request-1 went to {BUS}"),
        ({"requestId": "none"}, "it tells of a delivery that no call made"),
        ({"attempt": 2}, "its number is 2, and nothing has 1"),
        ({"attempt": 0}, "its number is 0"),
        ({"eventType": "other"}, "eventType is 'other', and the event's is 'order.completed'"),
        ({"customerExternalId": "other"}, "customerExternalId is 'other', and the event's is 'acct_one'"),
        ({"origin": None}, "it names no origin"),
        ({"origin": {"topic": "pushrail.events", "partition": 0, "offset": 7}}, "there is no such event"),
    ],
)
def test_a_false_field_is_found(fields: dict[str, object], problem: str) -> None:
    assert problem in spoilt(**fields)


def test_an_answer_that_never_came_tells_of_no_delivery() -> None:
    told, _ = delivered()
    told.evidence.calls[0].answered_at = None
    assert untrue(told) == ["its answer never came"]


def test_a_refused_entry_is_not_delivered() -> None:
    told, event = delivered()
    call = told.refused(1_005.0, event)
    told.attempt(1_006.0, event, call, attempt=2)
    assert untrue(told) == ["the bus did not take it in the call request-3"]


def two_entries() -> tuple[Told, Written]:
    told = Told()
    told.document()
    first, second = told.event(1_000.0, 1), told.event(1_000.0, 2)
    call = told.call(1_001.0, first, second)
    told.attempt(1_002.0, first, call)
    return told, second


def test_each_entry_of_a_call_has_a_record() -> None:
    told, second = two_entries()
    assert untrue(told) == ["the call request-1 has no record of its entries [1]"]
    told.attempt(1_002.0, second, told.evidence.calls[0])
    assert untrue(told) == []


def test_records_may_be_lost_with_their_worker() -> None:
    told, _ = two_entries()
    told.evidence.worker_ends.append(WorkerEnd(1_003.0, "worker-1", "w", "killed"))
    assert untrue(told) == []


def test_an_entry_is_the_event_of_its_record() -> None:
    told, second = two_entries()
    told.attempt(1_002.0, second, told.evidence.calls[0], batchIndex=0)
    assert "the entry 0 of the call request-1 is another event" in untrue(told)


def test_ids_are_unique() -> None:
    told, event = delivered()
    told.attempt(1_003.0, event, told.evidence.calls[0], attemptId="same")
    told.attempt(1_003.0, event, told.evidence.calls[0], attemptId="same")
    assert untrue(told) == ["another record has its attemptId"]


def test_a_record_that_was_lost_with_its_topic_is_written_again() -> None:
    told, event = delivered()
    lost = told.evidence.written[-1]
    again = told.write(1_030.0, "pushrail.attempts", lost.record.value or b"", host="worker-1", topic_id="new-id")
    assert untrue(told) == ["another record has its attemptId"]
    lost.gone_at = 1_010.0
    assert untrue(told) == []
    told.attempt(1_031.0, event, told.evidence.calls[0], attemptId=_id_of(again))
    assert untrue(told) == ["another record has its attemptId"]


def test_a_record_whose_acknowledgement_was_lost_may_be_written_again() -> None:
    told, event = delivered()
    before = told.evidence.written[-1]
    again = told.write(1_063.0, "pushrail.attempts", before.record.value or b"", host="worker-1")
    assert untrue(told) == ["another record has its attemptId"], "the first was acknowledged"
    before.acknowledged_at = None
    assert untrue(told) == []
    again.host = "worker-2"
    assert "another record has its attemptId" in untrue(told), "another worker wrote it"
    told.evidence.written.pop()
    told.attempt(1_063.0, event, told.evidence.calls[0], attemptId=_id_of(before), durationMs=7)
    assert untrue(told) == ["another record has its attemptId"], "it is another record"


def _id_of(one: Written) -> str:
    return str(json.loads(one.record.value or b"{}")["attemptId"])


def test_a_dead_letter_without_a_call_is_in_the_dlq() -> None:
    told, event = delivered()
    told.attempt(1_003.0, event, status="dead_lettered", attempt=0, reason="suspended")
    assert untrue(told) == ["there is no dead letter"]
    told.copy(1_003.0, event, "suspended")
    assert untrue(told) == []


@pytest.mark.parametrize(
    ("document", "reason", "is_true"),
    [
        ({"enabled": False}, "disabled", True),
        ({"paused": True}, "paused", True),
        ({"paused": True}, "disabled", False),
        ({"paused": True, "enabled": False}, "paused", False),
        ({}, "paused", False),
        ({}, "disabled", False),
        ({"eventTypes": ["invoice.*"]}, "filtered", True),
        ({"eventTypes": ["order.*"]}, "filtered", False),
        ({}, "deleted", False),
        ({}, "no_destination", False),
        ({"customerExternalId": "acct_two"}, "deleted", True),
    ],
)
def test_a_skip_has_its_reason(document: dict[str, object], reason: str, is_true: bool) -> None:  # noqa: FBT001
    told = Told()
    told.document(**document)  # type: ignore[arg-type]
    event = told.event(1_000.0)
    told.attempt(1_001.0, event, status="skipped", attempt=0, reason=reason)
    assert (untrue(told) == []) is is_true


def skipped(at: float, reason: str, trigger: str = "live", **more: Any) -> tuple[Told, Written]:
    """A story of a worker that began at 500 s, and skips an event of 1000 s."""
    told = Told()
    told.document()
    told.refused(500.0, told.event(499.0, 99))
    event = told.event(at)
    told.attempt(at + 1.0, event, status="skipped", attempt=0, reason=reason, trigger=trigger, **more)
    return told, event


def test_a_worker_keeps_the_last_good_version_that_it_has_read() -> None:
    told, _ = skipped(1_000.0, "no_destination", destinationId=None)
    told.document(600.0, content=b"{")
    (found,) = untrue(told)
    assert found.endswith("to None: acct_one had dst_one")
    early, _ = skipped(1_000.0, "no_destination", destinationId=None)
    early.document(520.0, content=b"{")
    assert untrue(early) == [], "the worker had not read the document for certain"
    replaced, _ = skipped(1_000.0, "no_destination", destinationId=None)
    replaced.document(590.0, content=None)
    replaced.document(600.0, content=b"{")
    assert untrue(replaced) == []


def test_a_new_event_is_not_skipped_for_a_destination_that_was_deleted_long_ago() -> None:
    told, _ = skipped(1_000.0, "deleted")
    told.document(960.0, content=None)
    assert untrue(told) == ["acct_one had no such destination"]
    soon, _ = skipped(1_000.0, "deleted")
    soon.document(980.0, content=None)
    assert untrue(soon) == []
    retried, _ = skipped(1_000.0, "deleted", "retry")
    retried.document(960.0, content=None)
    assert untrue(retried) == []


def test_the_dead_letter_of_a_record_with_unreadable_headers_needs_no_vendor() -> None:
    told = Told()
    told.document()
    event = told.event(1_000.0, headers=((NOT_UTF8, b"x"), ("pushrail-vendor", b"acme")))
    told.copy(1_001.0, event, "undecodable", None)
    fields: dict[str, Any] = {"destinationId": None, "vendor": None, "attempt": 0, "code": "headers"}
    told.attempt(1_002.0, event, status="dead_lettered", reason="undecodable", **fields)
    assert untrue(told) == []


def unrecorded(told: Told) -> list[str]:
    return [violation.sentence for violation in find_unrecorded(told.story)]


def test_a_dead_letter_has_a_record() -> None:
    told, event = delivered()
    told.copy(1_003.0, event, "suspended")
    assert len(unrecorded(told)) == 1
    told.attempt(1_003.0, event, status="dead_lettered", attempt=0, reason="suspended")
    assert unrecorded(told) == []


def test_the_record_of_a_dead_letter_may_be_lost_with_its_worker() -> None:
    told, event = delivered()
    told.copy(1_003.0, event, "suspended")
    told.evidence.worker_ends.append(WorkerEnd(1_004.0, "worker-1", "w", "killed"))
    assert unrecorded(told) == []


def test_a_retry_goes_on_with_the_number_of_its_copy() -> None:
    told, event = delivered()
    told.copy(1_003.0, event)
    call = told.call(1_013.0, event)
    told.attempt(1_014.0, event, call, attempt=2, trigger="retry")
    assert untrue(told) == []
    told.evidence.written.pop()
    told.attempt(1_014.0, event, call, attempt=1, trigger="retry")
    assert untrue(told) == ["its number is 1, and no copy has 0 attempts"]


def test_a_record_that_is_no_event_is_dead_lettered_before_its_replay() -> None:
    told, _ = delivered()
    event = told.event(1_003.0, 7, headers=((NOT_UTF8, b"value"),))
    told.copy(1_003.1, event, "undecodable", None)
    told.copy(1_100.0, event, host="office", replay="rp-1", replay_count=1)
    told.attempt(1_003.2, event, destinationId=None, status="dead_lettered", attempt=0, vendor=None)
    assert untrue(told) == []


def test_a_replay_of_a_record_that_is_no_event_may_be_skipped() -> None:
    told, _ = delivered()
    event = told.event(1_003.0, 7, headers=((NOT_UTF8, b"value"),))
    told.copy(1_003.1, event, "undecodable", None)
    fields: dict[str, Any] = {"status": "skipped", "attempt": 0, "reason": "deleted", "trigger": "replay"}
    told.attempt(1_111.0, event, **fields)
    assert untrue(told) == ["the record is no canonical event"]
    told.copy(1_100.0, event, host="office", replay="rp-1", replay_count=1)
    assert untrue(told) == ["its destination was not deleted"]
    told.document(1_050.0, content=None)
    assert untrue(told) == []


def test_a_replay_of_a_record_that_is_no_event_is_told_from_the_event_that_took_its_offset() -> None:
    told = Told()
    told.document()
    lost = told.event(1_000.0, 1, headers=((NOT_UTF8, b"value"),), gone_at=1_010.0)
    told.copy(1_000.5, lost, "undecodable", None)
    newer = told.event(1_020.0, 2)
    newer.record = newer.record._replace(offset=lost.record.offset)
    told.copy(1_100.0, lost, host="office", replay="rp-1", replay_count=1)
    replayed = told.attempt(1_101.5, lost, told.call(1_101.0, lost))
    told.attempt(1_102.5, newer, told.call(1_102.0, newer))
    assert untrue(told) == []
    replayed.record = replayed.record._replace(value=(replayed.record.value or b"").replace(b"key-1", b"key-3"))
    assert untrue(told) == ["idempotencyKey is 'key-3', and the event's is 'key-2'"]


def test_a_record_may_tell_that_a_missing_bus_swallowed_an_entry() -> None:
    told, event = delivered()
    told.evidence.written.pop()
    call = told.evidence.calls[0]
    told.attempt(1_002.5, event, call, status="dead_lettered", code="EventBusNotFound")
    assert len(untrue(told)) == 1
    call.entries = (call.entries[0]._replace(fault="customer"),)
    assert untrue(told) == []
