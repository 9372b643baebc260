"""Events that were lost, and events that were not."""

from __future__ import annotations

import pytest

from tests.simulation.oracle.evidence import DocumentEdit, WorkerEnd
from tests.simulation.oracle.nothing_lost import find_lost
from tests.simulation.oracle.told import CUSTOMER, ONE, TIER, WORKER, Told, delivered


def lost(told: Told) -> list[str]:
    return [violation.sentence for violation in find_lost(told.story)]


def test_an_event_that_arrived_nowhere_is_lost() -> None:
    told, _ = delivered()
    told.event(1_003.0, 7)
    assert lost(told) == [
        "the event at pushrail.events/0/1 of topic id-of-events, written at 1003.000, never came to dst_one"
    ]


def test_a_dead_letter_is_an_end() -> None:
    told, _ = delivered()
    told.copy(1_004.0, told.event(1_003.0, 7), "blocked")
    assert lost(told) == []


def test_a_retry_copy_is_no_end() -> None:
    told, _ = delivered()
    told.copy(1_004.0, told.event(1_003.0, 7))
    assert len(lost(told)) == 1


@pytest.mark.parametrize(("calls", "expected"), [(60, 1), (320, 0)])
def test_a_retry_copy_may_wait_for_a_destination_that_works_at_its_own_limit(calls: int, expected: int) -> None:
    """The document allows one call a second, and the last 320 seconds count."""
    told, event = delivered(topics={"retry": {TIER: 10}})
    told.evidence.edits.clear()
    told.document(limits={"maxRequestsPerSecond": 1})
    told.copy(1_004.0, told.event(1_003.0, 7))
    told.evidence.healed_at, told.evidence.ended_at = 2_000.0, 3_000.0
    for number in range(calls):
        told.call(3_000.0 - number, event)
    assert len(lost(told)) == expected


@pytest.mark.parametrize(("reason", "calls", "expected"), [("held", 100, 1), ("held", 110, 0), ("retryable", 110, 1)])
def test_a_copy_that_waits_for_its_turn_waits_half_of_its_time_on_the_topic(
    reason: str, calls: int, expected: int
) -> None:
    """The document allows one call a second. Of 270 seconds, a copy waits for 135 in memory: 80 % are 108 calls."""
    told, event = delivered(topics={"retry": {TIER: 10}})
    told.evidence.edits.clear()
    told.document(limits={"maxRequestsPerSecond": 1})
    told.copy(1_004.0, told.event(1_003.0, 7), reason)
    told.evidence.healed_at, told.evidence.ended_at = 2_000.0, 3_000.0
    for number in range(calls):
        told.call(3_000.0 - number, event)
    assert len(lost(told)) == expected


def test_an_event_owes_no_arrival_for_a_twin_that_waits_for_its_destination() -> None:
    told, event = delivered(topics={"retry": {TIER: 10}})
    told.evidence.edits.clear()
    told.document(limits={"maxRequestsPerSecond": 1})
    told.copy(1_004.0, told.event(1_003.0, 7))
    told.call(1_006.0, told.event(1_005.0, 7))
    told.evidence.healed_at, told.evidence.ended_at = 2_000.0, 3_000.0
    assert len(lost(told)) == 1
    for number in range(320):
        told.call(3_000.0 - number, event)
    assert lost(told) == []


def test_a_retry_copy_may_wait_when_the_story_ends() -> None:
    told, _ = delivered()
    event = told.event(9_900.0, 7)
    told.commit(9_901.0, 2)
    assert len(lost(told)) == 1
    told.copy(9_901.0, event)
    assert lost(told) == []
    told.commit(9_950.0, 1, TIER)
    assert len(lost(told)) == 1, "a commit covers the copy, so that nobody reads it again"


def test_a_retry_copy_that_kafka_lost_is_excused() -> None:
    told, _ = delivered()
    told.copy(1_004.0, told.event(1_003.0, 7))
    told.evidence.written[-1].gone_at = 1_005.0
    assert lost(told) == []


def test_an_event_owes_no_arrival_for_a_twin_whose_retry_copy_kafka_lost() -> None:
    told, _ = delivered()
    copy = told.copy(1_004.0, told.event(1_003.0, 7))
    told.call(1_006.0, told.event(1_005.0, 7))
    assert len(lost(told)) == 1
    copy.gone_at = 1_005.0
    assert lost(told) == []
    told.event(1_007.0, 7)
    assert len(lost(told)) == 1, "a third one needs an arrival of its own"


def test_a_record_that_is_no_event_must_be_in_the_dlq() -> None:
    told, _ = delivered()
    event = told.event(1_003.0, value=b"{}")
    assert len(lost(told)) == 1
    told.copy(1_004.0, event, "undecodable", None)
    assert lost(told) == []


def test_a_skip_needs_a_record() -> None:
    told, _ = delivered()
    told.document(name="dst_two", busArn="arn:two", enabled=False)
    event = told.evidence.written[0]
    assert len(lost(told)) == 1
    told.attempt(1_004.0, event, destinationId="dst_two", status="skipped", reason="disabled")
    assert lost(told) == []


def test_an_event_that_one_of_two_versions_takes_may_be_delivered() -> None:
    told, _ = delivered()
    told.document(1_000.5, eventTypes=["another.type"])
    assert lost(told) == []
    told.evidence.calls.clear()
    assert len(lost(told)) == 1


def test_an_event_without_a_destination_needs_a_record() -> None:
    told = Told()
    event = told.event(1_000.0)
    assert lost(told) == [
        "the event at pushrail.events/0/0 of topic id-of-events, written at 1000.000, never came to any destination"
    ]
    told.attempt(1_001.0, event, destinationId=None, status="skipped", reason="no_destination")
    assert lost(told) == []


@pytest.mark.parametrize("at", [900.0, 1_100.0])
def test_a_destination_that_changed_meanwhile_is_not_owed(at: float) -> None:
    """A worker may have used either version."""
    told = Told()
    told.document(0.0)
    told.document(at, None)
    event = told.event(1_000.0)
    told.attempt(1_001.0, event, destinationId=None, status="skipped", reason="no_destination")
    assert lost(told) == []


def test_a_twin_needs_an_arrival_of_its_own() -> None:
    told, _ = delivered()
    told.event(1_003.0, 0)
    assert len(lost(told)) == 1
    told.call(1_004.0, told.evidence.written[0])
    assert lost(told) == []


def test_what_kafka_lost_is_excused() -> None:
    told, _ = delivered()
    told.event(1_003.0, 7, gone_at=1_004.0)
    told.event(1_003.0, 8, is_readable=False)
    assert lost(told) == []


def test_what_an_operator_stepped_over_is_excused() -> None:
    told, _ = delivered()
    told.event(1_003.0, 7)
    told.commit(1_004.0, 2, host="")
    assert lost(told) == []


def test_a_record_that_was_stepped_over_needs_no_arrival_of_its_twin() -> None:
    told, event = delivered()
    told.event(1_003.0, 7)
    told.commit(1_004.0, 2, host="")
    told.call(1_006.0, told.event(1_005.0, 7))
    assert lost(told) == []
    told.event(1_007.0, 7)
    (found,) = lost(told)
    assert "pushrail.events/0/3" in found
    assert not told.story.is_stepped_over(event)


def test_a_bad_edit_leaves_the_last_good_version() -> None:
    told, _ = delivered()
    told.evidence.edits.append(DocumentEdit(1_500.0, ONE, b"{"))
    told.event(3_000.0, 7)
    (found,) = lost(told)
    assert found.endswith("never came to any destination")
    assert told.story.documents.possible(("acme", CUSTOMER), 3_000.0, 3_000.0)


def test_an_entry_for_a_missing_bus_is_delivered_as_far_as_anyone_can_know() -> None:
    told, _ = delivered()
    event = told.event(1_003.0, 7)
    call = told.call(1_004.0, event)
    call.entries = (call.entries[0]._replace(fault="customer"),)
    assert lost(told) == []


def test_the_record_of_a_skip_may_be_lost_with_its_worker() -> None:
    told, _ = delivered()
    told.document(name="dst_two", busArn="arn:two", enabled=False)
    assert len(lost(told)) == 1
    told.evidence.worker_ends.append(WorkerEnd(1_003.0, WORKER, "w", "killed"))
    assert lost(told) == []
