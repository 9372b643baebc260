"""Copies that take a wrong step."""

from __future__ import annotations

from typing import Any

import pytest

from pushrail_stream.core.record import Partition, Record
from pushrail_stream.core.signals import PartitionRestarted
from pushrail_stream.core.text import format_rfc3339
from tests.simulation.oracle.evidence import Disturbance, SignalSeen, Written
from tests.simulation.oracle.tiers import find_early_retries, find_wrong_steps
from tests.simulation.oracle.told import EPOCH_MS, EVENTS, ONE, TIER, WORKER, Told

SECOND, LAST = "pushrail.retry.2m", "pushrail.retry.30m"
FIRST_MS = EPOCH_MS + 1_001_000


def world(**settings: Any) -> tuple[Told, Written]:
    told = Told(**settings)
    told.document()
    event = told.event(1_000.0)
    told.call(900.0, told.event(890.0, 99))
    return told, event


def copy(
    told: Told, at: float, event: Written, attempts: int, topic: str = TIER, reason: str = "retryable", **more: Any
) -> Written:
    one = told.copy(at, event, reason, **{"first_attempt_at_ms": FIRST_MS, **more})
    headers = tuple((k, str(attempts).encode() if k == "pushrail-attempts" else v) for k, v in one.record.headers)
    record: Record = one.record._replace(topic=topic, headers=headers)
    one.record = record
    return one


def wrong(told: Told) -> list[str]:
    return [violation.sentence.rpartition(": ")[2] for violation in find_wrong_steps(told.story)]


def early(told: Told) -> list[str]:
    return [violation.sentence for violation in find_early_retries(told.story)]


def test_copies_climb_one_topic_at_a_time() -> None:
    told, event = world()
    copy(told, 1_010.0, event, 1)
    copy(told, 1_030.0, event, 2, SECOND)
    copy(told, 1_160.0, event, 3, LAST)
    copy(told, 2_970.0, event, 4, LAST)
    assert wrong(told) == []


def test_a_copy_that_leaves_a_topic_out_is_found() -> None:
    told, event = world()
    copy(told, 1_010.0, event, 1, LAST)
    assert wrong(told) == [f"it is on {LAST}, and was never on {SECOND}"]


def test_a_copy_that_stays_on_the_first_topic_is_found() -> None:
    told, event = world()
    copy(told, 1_010.0, event, 1)
    copy(told, 1_030.0, event, 2)
    assert wrong(told) == [f"it is on {TIER} again"]


def test_a_delivery_of_a_cursor_may_be_old_when_another_worker_moves_it() -> None:
    told, event = world(delivery={"max_age_secs": 60})
    copied = copy(told, 1_070.0, event, 0, LAST, "held")
    assert wrong(told) == ["its delivery began more than 60 s before"]
    told.assign(1_065.0, copied.host, EVENTS)
    assert wrong(told) == []


def test_two_deliveries_of_an_event_may_begin_in_the_same_millisecond() -> None:
    """Two workers have the event at the same time. A copy comes from another one when that one has waited."""
    told, event = world()
    told.call(900.0, event, host="worker-2")
    first = copy(told, 1_010.0, event, 1)
    copy(told, 1_015.0, event, 2, host="worker-2")
    assert wrong(told) == []
    restarted = PartitionRestarted(Partition(TIER, 0), "went_back", 5)
    told.evidence.signals.append(SignalSeen(1_012.0, "worker-2", restarted))
    assert len(wrong(told)) == 1, "its worker had to assume that Kafka had lost the first one"
    told.evidence.signals.clear()
    first.gone_at = 1_012.0
    assert len(wrong(told)) == 1, "Kafka had lost the first one"
    first.gone_at = None
    told.evidence.disturbances.append(Disturbance(890.0, 2_000.0, "clock", WORKER))
    assert len(wrong(told)) == 1, "by a wrong clock it has waited"


def test_deliveries_that_wait_for_their_turn_climb_as_they_need() -> None:
    told, event = world()
    copy(told, 1_010.0, event, 1, SECOND, "held")
    copy(told, 1_140.0, event, 1, TIER, "throttled")
    assert wrong(told) == []


def test_a_copy_with_attempts_has_a_first_one() -> None:
    told, event = world()
    told.copy(1_010.0, event, "blocked")
    assert wrong(told) == ["it has attempts, and no first one"]


def test_an_old_delivery_expires() -> None:
    told, event = world(delivery={"max_age_secs": 60}, topics={"retry": {TIER: 10}})
    told.refused(1_001.0, event, fault="moment")
    copy(told, 1_060.9, event, 1)
    assert wrong(told) == []
    copy(told, 1_061.0, event, 1)
    assert wrong(told) == ["its delivery began more than 60 s before"]


def test_a_delivery_that_waits_because_of_us_does_not_expire() -> None:
    told, event = world(delivery={"max_age_secs": 60})
    copy(told, 1_070.0, event, 1, error_code="BaseCredentialsMissing")
    assert wrong(told) == []


def test_an_old_delivery_expires_though_its_copy_says_that_it_is_young() -> None:
    told, event = world(delivery={"max_age_secs": 60}, topics={"retry": {TIER: 10}})
    told.refused(1_001.0, event, fault="moment")
    told.commit(1_002.0, 1)
    copy(told, 1_180.0, event, 1, first_attempt_at_ms=EPOCH_MS + 1_150_000)
    assert wrong(told) == []
    copy(told, 1_195.0, event, 1, first_attempt_at_ms=EPOCH_MS + 1_150_000)
    assert wrong(told) == ["its delivery began more than 60 s before"]
    told.evidence.calls[-1].fault = "ours"
    assert wrong(told) == []


def test_a_delivery_begins_again_until_its_event_is_committed() -> None:
    """Its worker left the group before a commit, and the next owner has read the record again."""
    told, event = world(delivery={"max_age_secs": 60}, topics={"retry": {TIER: 10}})
    told.call(1_001.0, event)
    told.refused(1_150.0, event, fault="moment")
    copy(told, 1_200.0, event, 1, first_attempt_at_ms=EPOCH_MS + 1_150_000)
    told.commit(1_201.0, 1)
    assert wrong(told) == []
    copy(told, 1_391.0, event, 1, first_attempt_at_ms=EPOCH_MS + 1_340_000)
    assert wrong(told) == []
    copy(told, 1_392.0, event, 1, first_attempt_at_ms=EPOCH_MS + 1_340_000)
    assert wrong(told) == ["its delivery began more than 60 s before"], "nobody reads the record again"


def test_a_delivery_that_has_waited_because_of_us_is_younger_than_its_first_call() -> None:
    """A garbled answer reads as if a proxy of ours had refused the call."""
    told, event = world(delivery={"max_age_secs": 60}, topics={"retry": {TIER: 10}})
    told.refused(1_001.0, event, fault="moment")
    told.commit(1_002.0, 1)
    copy(told, 1_195.0, event, 2, first_attempt_at_ms=EPOCH_MS + 1_150_000)
    copy(told, 1_200.0, event, 2, first_attempt_at_ms=EPOCH_MS + 1_150_000, error_code="RefusedBeforeAws")
    copy(told, 1_205.0, event, 3, first_attempt_at_ms=EPOCH_MS + 1_150_000)
    assert wrong(told) == ["its delivery began more than 60 s before"], "only the first has not waited for us"
    copy(told, 1_211.0, event, 4, first_attempt_at_ms=EPOCH_MS + 1_150_000)
    assert len(wrong(told)) == 2, "it is too old even so"


def test_a_retry_waits_until_it_is_due() -> None:
    told, event = world()
    copy(told, 1_010.0, event, 1)
    call = told.call(1_020.1, event)
    told.attempt(1_020.3, event, call, attempt=2, trigger="retry")
    assert early(told) == []
    told.attempt(1_012.0, event, call, attempt=2, trigger="retry")
    (found,) = early(told)
    assert found.endswith("was over at 1012.000, and its copy is due at 1020.000")
    told.evidence.retries_asked_for = True
    assert early(told) == []
    told.evidence.retries_asked_for = False
    told.evidence.disturbances.append(Disturbance(1_005.0, 1_020.0, "clock", WORKER))
    assert len(early(told)) == 1, "the worker does not follow the jump"
    told.evidence.disturbances.append(Disturbance(900.0, 901.0, "clock", WORKER))
    assert early(told) == []
    assert told.story.destinations_of(told.story.event_in(event)) == [ONE]


def test_a_retry_in_memory_does_not_wait_for_a_copy_of_another_delivery() -> None:
    """The event was read again, so two deliveries of it are under way."""
    told, event = world()
    copy(told, 1_010.0, event, 1)
    told.attempt(1_012.0, event, attempt=1, trigger="retry", nextAttemptAt=format_rfc3339(EPOCH_MS + 1_012_500))
    told.attempt(1_013.0, event, attempt=2, trigger="retry", at=format_rfc3339(EPOCH_MS + 1_012_490))
    assert len(early(told)) == 1, "it began before its announced time"
    told.attempt(1_013.5, event, attempt=2, trigger="retry", at=format_rfc3339(EPOCH_MS + 1_012_499))
    assert len(early(told)) == 1
    told.attempt(1_014.0, event, attempt=2, trigger="retry", at=format_rfc3339(EPOCH_MS + 1_013_000)).host = "worker-2"
    assert len(early(told)) == 2, "another worker had announced it"


def two_in_memory(failed_ms: int = 0) -> tuple[Told, Written, Written]:
    """A worker retries in memory at 1012.1 s what has failed at 1012.0 s, and another delivery has a copy."""
    told, event = world()
    copy(told, 1_010.0, event, 1, failed_at_ms=EPOCH_MS + (failed_ms or 1_010_000))
    fields: dict[str, Any] = {
        "durationMs": 0,
        "status": "retrying",
        "nextAttemptAt": format_rfc3339(EPOCH_MS + 1_013_000),
    }
    told.attempt(1_013.0, event, attempt=1, trigger="retry", at=format_rfc3339(EPOCH_MS + 1_012_000), **fields)
    call = told.call(1_012.1, event)
    told.attempt(1_013.0, event, call, attempt=2, trigger="retry", at=format_rfc3339(EPOCH_MS + 1_012_100))
    return told, event, told.event(1_000.0, 5)


def test_a_retry_in_memory_begins_when_its_destination_answers_another_call() -> None:
    told, _, other = two_in_memory()
    assert len(early(told)) == 1
    answer = told.attempt(
        1_013.0, other, told.call(1_012.0, other), at=format_rfc3339(EPOCH_MS + 1_012_010), durationMs=80
    )
    assert early(told) == []
    answer.host = "worker-2"
    assert len(early(told)) == 1, "another worker had the answer"


def test_a_retry_in_memory_does_not_begin_for_an_answer_of_another_time() -> None:
    for at_ms in (1_011_900, 1_012_050):
        told, _, other = two_in_memory()
        told.attempt(1_013.0, other, told.call(1_012.0, other), at=format_rfc3339(EPOCH_MS + at_ms), durationMs=80)
        assert len(early(told)) == 1


def test_an_answer_does_not_end_the_wait_on_a_retry_topic() -> None:
    told, _, other = two_in_memory(failed_ms=1_012_000)
    told.attempt(1_013.0, other, told.call(1_012.0, other), at=format_rfc3339(EPOCH_MS + 1_012_010), durationMs=80)
    assert len(early(told)) == 1


def test_a_failure_of_another_call_ends_no_wait() -> None:
    told, _, other = two_in_memory()
    fields: dict[str, Any] = {"status": "dead_lettered", "at": format_rfc3339(EPOCH_MS + 1_012_010), "durationMs": 80}
    told.attempt(1_013.0, other, attempt=1, reason="expired", requestId="failed", **fields)
    assert len(early(told)) == 1
    told.attempt(1_013.0, other, attempt=1, reason="rejected", requestId="refused", **fields)
    assert early(told) == []


@pytest.mark.parametrize(
    ("status", "code", "early_ones"),
    [(200, "InternalFailure", 0), (503, "ServiceUnavailable", 1), (200, "UnknownResult", 1)],
)
def test_a_call_whose_entries_all_failed_for_now_was_answered(status: int, code: str, early_ones: int) -> None:
    told, _, other = two_in_memory()
    fields: dict[str, Any] = {"status": "retrying", "at": format_rfc3339(EPOCH_MS + 1_012_010), "durationMs": 80}
    told.attempt(
        1_013.0, other, attempt=1, reason="retryable", requestId="other", httpStatus=status, code=code, **fields
    )
    assert len(early(told)) == early_ones


def test_a_retry_that_kafka_has_lost_begins_at_once() -> None:
    told, event = world()
    copy(told, 1_010.0, event, 1)
    call = told.call(1_011.5, event)
    told.attempt(1_012.0, event, call, attempt=2, trigger="retry")
    assert len(early(told)) == 1
    told.evidence.written[-2].gone_at = 1_011.0
    assert early(told) == []


def test_a_retry_may_begin_early_when_its_partition_went_back() -> None:
    told, event = world()
    told.copy(1_010.0, event)
    call = told.call(1_011.5, event)
    told.attempt(1_012.0, event, call, attempt=2, trigger="retry")
    for at, host, topic in ((1_009.0, WORKER, TIER), (1_011.0, "another", TIER), (1_011.0, WORKER, "pushrail.events")):
        restarted = PartitionRestarted(Partition(topic, 0), "went_back", 5)
        told.evidence.signals.append(SignalSeen(at, host, restarted))
    assert len(early(told)) == 1
    told.evidence.signals.append(SignalSeen(1_011.0, WORKER, PartitionRestarted(Partition(TIER, 0), "went_back", 5)))
    assert early(told) == []


def test_a_retry_need_not_wait_longer_because_kafka_took_its_copy_late() -> None:
    told, event = world()
    call = told.call(1_036.0, event)
    told.copy(1_035.0, event, failed_at_ms=EPOCH_MS + 1_010_000)
    told.attempt(1_036.2, event, call, attempt=2, trigger="retry", at=format_rfc3339(EPOCH_MS + 1_036_000))
    assert early(told) == []
    hasty, event = world()
    call = hasty.call(1_016.0, event)
    hasty.copy(1_015.0, event, failed_at_ms=EPOCH_MS + 1_010_000)
    hasty.attempt(1_016.2, event, call, attempt=2, trigger="retry", at=format_rfc3339(EPOCH_MS + 1_016_000))
    assert len(early(hasty)) == 1
