"""Dead letters that blame the wrong party."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pushrail_stream.core.event import VENDOR_SETTING
from pushrail_stream.core.record import NOT_UTF8, Partition
from pushrail_stream.core.signals import PartitionsAssigned
from tests.simulation.oracle.blame import find_hopeless_retries, find_wrong_blame
from tests.simulation.oracle.evidence import Disturbance, SignalSeen, Written
from tests.simulation.oracle.told import BUS, EPOCH_MS, EVENTS, ROLE, WORKER, Told, event_value


def wrong(told: Told) -> list[str]:
    return [violation.sentence for violation in find_wrong_blame(told.story)]


def world() -> tuple[Told, Written]:
    told = Told()
    told.document()
    return told, told.event(1_000.0)


def test_a_refusal_for_the_customers_sake_blocks() -> None:
    told, event = world()
    call = told.refused(1_001.0, event)
    told.copy(1_002.0, event, "blocked", error_code="AccessDenied", request_id=call.request_id)
    assert wrong(told) == []


def test_a_cause_of_ours_is_no_customers() -> None:
    told, event = world()
    call = told.refused(1_001.0, event, fault="ours", code="ExpiredToken")
    told.copy(1_002.0, event, "blocked", error_code="ExpiredToken", request_id=call.request_id)
    (found,) = wrong(told)
    assert found.endswith("says blocked (ExpiredToken), so customer: the cause was ours in the call request-1")


def test_a_cause_that_passes_is_no_customers() -> None:
    told, event = world()
    call = told.refused(1_001.0, event, fault="moment", code="InternalFailure")
    told.copy(1_002.0, event, "blocked", error_code="InternalFailure", request_id=call.request_id)
    (found,) = wrong(told)
    assert "the cause could pass" in found


def test_an_entry_that_was_taken_is_not_rejected() -> None:
    told, event = world()
    call = told.call(1_001.0, event)
    told.copy(1_002.0, event, "rejected", error_code="MalformedDetail", request_id=call.request_id)
    (found,) = wrong(told)
    assert "the bus took it" in found


def test_an_entry_that_a_missing_bus_swallowed_is_blocked() -> None:
    told, event = world()
    call = told.call(1_001.0, event)
    call.entries = (call.entries[0]._replace(fault="customer"),)
    told.copy(1_002.0, event, "blocked", error_code="EventBusNotFound", request_id=call.request_id)
    assert wrong(told) == []
    told.copy(1_003.0, event, "blocked", error_code="AccessDenied", request_id=call.request_id)
    (found,) = wrong(told)
    assert "the bus took it" in found


def test_a_letter_without_a_call_needs_an_earlier_refusal() -> None:
    told, event = world()
    told.copy(1_002.0, event, "blocked", error_code="EventBusNotFound")
    (found,) = wrong(told)
    assert "AWS never refused" in found
    told.refused(1_001.0, event)
    assert wrong(told) == []


def test_a_garbled_answer_may_tell_a_refusal_without_its_request_id() -> None:
    told, event = world()
    call = told.call(1_001.0, event, is_garbled=True, fault="moment")
    told.copy(1_002.0, event, "rejected", error_code="MalformedDetail")
    assert len(wrong(told)) == 1
    call.entries = tuple(one._replace(event_id=None, code="MalformedDetail") for one in call.entries)
    assert wrong(told) == []


def test_a_suspension_needs_refusals() -> None:
    told, event = world()
    told.copy(1_002.0, event, "suspended", error_code="AccessDenied")
    assert len(wrong(told)) == 1
    told.refused(1_001.0, event)
    assert wrong(told) == []


def test_a_destination_whose_document_breaks_a_rule_is_blocked() -> None:
    told = Told()
    told.document(region="eu-west-1")
    event = told.event(1_000.0)
    told.copy(1_002.0, event, "blocked", error_code="NoCredentials")
    assert wrong(told) == []


def test_a_canonical_event_is_not_undecodable() -> None:
    told, event = world()
    told.copy(1_002.0, event, "undecodable", None)
    (found,) = wrong(told)
    assert found.endswith("the record is a canonical event")


def test_the_setting_of_the_vendor_is_ours() -> None:
    told, _ = world()
    event = told.event(1_001.0, value=b"{}")
    told.copy(1_002.0, event, "undecodable", None, error_code=VENDOR_SETTING)
    (found,) = wrong(told)
    assert "so ours: the broken rule is eventType" in found


def test_a_small_event_is_not_oversize() -> None:
    told, event = world()
    told.copy(1_002.0, event, "oversize")
    assert len(wrong(told)) == 1
    large = told.event(1_003.0, value=event_value(1, payload={"text": "x" * 1_100_000}))
    told.copy(1_004.0, large, "oversize")
    assert len(wrong(told)) == 1


def test_a_delivery_expires_at_its_age() -> None:
    told, event = world()
    told.copy(1_060.0, event, "expired")
    assert len(wrong(told)) == 1
    short = Told(delivery={"max_age_secs": 50})
    short.document()
    short.copy(1_060.0, short.event(1_000.0), "expired")
    assert wrong(short) == []


def test_a_cursor_may_open_before_kafka_takes_a_record() -> None:
    """The producer made it at 1,005. Its request was lost, and it repeated the request at 1,040."""
    told = Told(delivery={"max_age_secs": 50})
    told.document()
    event = told.event(1_040.0)
    made_early = replace(event, record=event.record._replace(timestamp_ms=EPOCH_MS + 1_005_000))

    def expires(at: float, since: float) -> bool:
        told.evidence.written[:] = [made_early]
        told.copy(at, made_early, "expired", error_code="ServiceUnavailable",
                  first_attempt_at_ms=EPOCH_MS + round(1000 * since))  # fmt: skip
        return wrong(told) == []

    assert expires(1_056.0, 1_005.0), "the cursor was open before"
    assert not expires(1_053.9, 1_005.0), "beyond a small step of a clock"
    assert expires(1_059.0, 1_008.0), "the cursor opened after the record was made"
    assert not expires(1_056.9, 1_008.0)
    assert not expires(1_059.0, 1_004.0), "nothing is due before it is made"
    assert not expires(1_060.0, 1_050.0)


def test_a_clock_that_jumps_makes_no_delivery_old() -> None:
    told = Told(delivery={"max_age_secs": 50})
    told.document()
    event = told.event(1_000.0)
    jumped_ms = EPOCH_MS + 1_090_000
    told.copy(1_010.0, event, "expired", error_code="ServiceUnavailable",
              first_attempt_at_ms=EPOCH_MS + 1_001_000, failed_at_ms=jumped_ms)  # fmt: skip
    assert len(wrong(told)) == 1


def test_a_delivery_never_expires_because_nobody_had_its_partition() -> None:
    told = Told(delivery={"max_age_secs": 50})
    told.document()
    event = told.event(1_000.0)
    assigned = PartitionsAssigned(((Partition(EVENTS, 0), None),))
    told.evidence.signals.append(SignalSeen(1_060.0, WORKER, assigned))
    told.copy(1_061.0, event, "expired", attempts=0, error_code="Held")
    (found,) = wrong(told)
    assert found.endswith("its worker had its partition for 1 s, and made no call for it")
    told.evidence.written.pop()
    told.copy(1_061.0, event, "expired", attempts=1, error_code="ServiceUnavailable")
    assert wrong(told) == [], "its worker made a call"
    told.evidence.written.pop()
    told.copy(1_110.0, event, "expired", attempts=0, error_code="Held")
    assert wrong(told) == [], "its worker had it for long"
    told.evidence.signals[-1] = SignalSeen(1_070.0, WORKER, assigned)
    assert len(wrong(told)) == 1
    told.copy(1_001.0, event, "held")
    assert wrong(told) == [], "it came from a retry topic"


def test_a_delivery_never_expires_because_of_us() -> None:
    told = Told(delivery={"max_age_secs": 50})
    told.document()
    event = told.event(1_000.0)
    told.refused(1_001.0, event, fault="ours", code="ExpiredToken")
    told.copy(1_060.0, event, "expired", error_code="ExpiredToken")
    (found,) = wrong(told)
    assert found.endswith("each of its calls failed for a cause of ours")
    told.refused(1_050.0, event, fault="ours", code="ExpiredToken").answered_at = None
    assert wrong(told) == [], "no answer told the cause of the last failure"


def test_a_failure_of_a_worker_that_never_had_the_delivery_does_not_delay_it() -> None:
    """The worker that has the delivery finds no way to the endpoint, and such a call never reaches AWS."""
    told = Told(delivery={"max_age_secs": 50})
    told.document()
    event = told.event(1_000.0)
    told.refused(1_049.0, event, fault="ours", code="AccessDenied").host = "worker-2"
    told.copy(1_050.5, event, "expired", error_code="Held")
    assert wrong(told) == []
    assigned = PartitionsAssigned(((Partition(EVENTS, 0), None),))
    told.evidence.signals.append(SignalSeen(999.0, "worker-2", assigned))
    assert len(wrong(told)) == 1, "it had the event's partition before"
    told.evidence.signals.clear()
    told.copy(1_002.0, event, "retryable", host="worker-2")
    assert len(wrong(told)) == 1, "it wrote a copy of the delivery"


def test_a_delivery_that_waits_for_its_turn_at_a_busy_destination_may_expire() -> None:
    """Our fault ended at 1,010. From then on the destination takes other events."""
    told = Told(delivery={"max_age_secs": 50})
    told.document()
    event, other = told.event(1_000.0), told.event(1_000.0, 7)
    told.refused(1_001.0, event, fault="ours", code="ExpiredToken")
    told.call(1_010.0, other)
    told.copy(1_056.0, event, "expired", error_code="Held")
    (found,) = wrong(told)
    assert found.endswith("each of its calls failed for a cause of ours"), "it has waited for 47 s of its own"
    told.evidence.written.pop()
    told.copy(1_060.0, event, "expired", error_code="Held")
    assert wrong(told) == []
    told.refused(1_055.0, event, fault="ours", code="ExpiredToken")
    assert len(wrong(told)) == 1


def test_our_fault_lasts_until_the_bus_takes_a_call_however_many_fail_before() -> None:
    """The fault lasts from 1,001 until 1,010, and the letter is 52 s old."""
    told = Told(delivery={"max_age_secs": 50})
    told.document()
    event, other = told.event(1_000.0), told.event(1_000.0, 7)
    for at in (1_001.0, 1_003.0, 1_005.0):
        told.refused(at, event, fault="ours", code="ExpiredToken")
    for at in (1_010.0, 1_015.0, 1_020.0):
        told.call(at, other)
    told.copy(1_061.0, event, "expired", error_code="Held")
    assert wrong(told) == []
    told.evidence.written.pop()
    told.copy(1_058.0, event, "expired", error_code="Held")
    assert len(wrong(told)) == 1


def test_a_delivery_never_expires_in_the_queue_to_sign_in() -> None:
    told = Told(delivery={"max_age_secs": 50})
    told.document()
    told.copy(1_060.0, told.event(1_000.0), "expired", error_code="SignInsQueued")
    (found,) = wrong(told)
    assert found.endswith("it waited for its turn to sign in, which is a limit of ours")


def test_a_denial_is_open_while_no_other_role_gives_a_clear_answer() -> None:
    told = Told(delivery={"max_age_secs": 50})
    told.document()
    event = told.event(1_000.0)
    denied: dict[str, Any] = {"api": "AssumeRole", "status": 403, "fault": "ours", "code": "AccessDenied"}
    told.call(1_001.0, target=ROLE, **denied)
    other = ROLE.replace("123456789012", "999999999999")
    late = told.call(1_001.5, target=other, answered_at=None, **denied)
    told.copy(1_060.0, event, "expired", error_code="ReadTimeout")
    assert wrong(told) == []
    told.copy(1_000.9, event, "retryable", error_code="BaseCredentialsDenied")
    assert len(wrong(told)) == 1, "the worker knew it before"
    told.evidence.written.pop()
    late.host = "worker-2"
    assert len(wrong(told)) == 1, "another worker asked"
    denial = told.evidence.calls[0]
    denial.host = "worker-2"
    assigned = SignalSeen(999.0, "worker-2", PartitionsAssigned(((Partition(EVENTS, 0), None),)))
    told.evidence.signals.append(assigned)
    assert len(wrong(told)) == 1, "no copy of this worker says that the cause is open"
    denial.host = WORKER
    late.host, late.at = WORKER, 1_040.0
    assert len(wrong(told)) == 1, "it asked for something else"
    late.at, late.answered_at = 1_001.5, 1_001.6
    assert len(wrong(told)) == 1, "the answer was clear"


def test_an_event_with_a_destination_is_routed() -> None:
    told, event = world()
    told.copy(1_002.0, event, "rejected", None, error_code="NoDestination")
    (found,) = wrong(told)
    assert found.endswith("it had a destination")


def test_a_batch_is_not_rejected_for_one_of_its_entries() -> None:
    told, event = world()
    call = told.refused(1_001.0, event, told.event(1_000.0, 7), fault="producer", code="ValidationException")
    told.copy(1_002.0, event, "rejected", error_code="ValidationException", request_id=call.request_id)
    (found,) = wrong(told)
    assert "refused together with others" in found


def test_a_suspension_ends_with_a_success() -> None:
    told, event = world()
    told.refused(1_001.0, event)
    told.call(1_030.0, event)
    told.copy(1_035.0, event, "suspended", error_code="AccessDenied")
    assert wrong(told) == []
    told.copy(1_050.0, event, "suspended", error_code="AccessDenied")
    (found,) = wrong(told)
    assert "its bus took a call at 1030.000" in found


def test_a_suspension_by_a_clock_that_was_behind_is_judged_by_the_time_of_the_letter() -> None:
    told, event = world()
    told.evidence.epoch = EPOCH_MS / 1000
    told.call(1_030.0, event)
    told.refused(1_080.0, event)
    decided_ms = EPOCH_MS + 1_050_000
    told.copy(1_081.0, event, "suspended", error_code="AccessDenied", failed_at_ms=decided_ms)
    assert len(wrong(told)) == 1
    told.evidence.disturbances.append(Disturbance(1_020.0, 1_090.0, "clock", WORKER))
    assert wrong(told) == []


def hopeless(told: Told) -> list[str]:
    return [violation.sentence for violation in find_hopeless_retries(told.story)]


def test_a_rejected_event_does_not_wait_for_a_retry() -> None:
    told, event = world()
    call = told.refused(1_001.0, event, fault="moment")
    told.copy(1_002.0, event, request_id=call.request_id)
    assert hopeless(told) == []
    call.entries = (call.entries[0]._replace(fault="producer"),)
    assert len(hopeless(told)) == 1


def test_twins_in_one_call_are_told_apart_by_their_errors() -> None:
    told, event = world()
    call = told.call(1_001.0, event, event)
    rejected = call.entries[0]._replace(event_id=None, code="MalformedDetail", fault="producer")
    call.entries = (rejected, rejected._replace(code="InternalFailure", fault="moment"))
    told.copy(1_002.0, event, request_id=call.request_id, error_code="InternalFailure")
    assert hopeless(told) == []
    told.copy(1_002.0, event, request_id=call.request_id, error_code="MalformedDetail")
    told.copy(1_002.0, event, request_id=call.request_id, error_code="Unheard")
    assert len(hopeless(told)) == 2


def test_a_bad_edit_leaves_running_workers_their_last_good_version() -> None:
    told, event = world()
    told.document(990.0, region="eu-west-1")
    told.copy(1_002.0, event, "blocked", error_code="NoCredentials")
    assert wrong(told) == [], "the worker began after the edit"
    told.call(600.0, told.event(599.0, 9))
    assert len(wrong(told)) == 1


def test_a_replayed_letter_is_judged_by_its_copy() -> None:
    told = Told()
    told.document()
    event = told.event(1_000.0, headers=((NOT_UTF8, b""),))
    told.refused(1_001.0, event)
    told.copy(1_002.0, event, "suspended", error_code="AccessDenied")
    (found,) = wrong(told)
    assert found.endswith("the record is no canonical event")
    replayed = Told()
    replayed.document()
    event = replayed.event(1_000.0, headers=((NOT_UTF8, b""),))
    replayed.refused(1_001.0, event)
    replayed.copy(1_002.0, event, "suspended", error_code="AccessDenied", replay="replay-1")
    assert wrong(replayed) == []
    bad = replayed.event(1_001.0, value=b"{}")
    replayed.copy(1_002.0, bad, "suspended", error_code="AccessDenied", replay="replay-1")
    (found,) = wrong(replayed)
    assert found.endswith("the record is no canonical event")


def test_a_bad_edit_takes_no_destination_away() -> None:
    told = Told()
    told.document()
    told.refused(500.0, told.event(499.0, 9))
    event = told.event(1_000.0)
    told.document(600.0, content=b"{")
    told.copy(1_002.0, event, "rejected", None, error_code="NoDestination")
    (found,) = wrong(told)
    assert found.endswith("it had a destination")


def test_a_letter_may_be_older_than_its_record() -> None:
    told, event = world()
    told.refused(1_001.0, event)
    told.call(1_030.0, event)
    told.copy(1_090.0, event, "suspended", error_code="AccessDenied", failed_at_ms=EPOCH_MS + 1_020_000)
    assert wrong(told) == []
    told.copy(1_091.0, event, "suspended", error_code="AccessDenied", failed_at_ms=EPOCH_MS + 1_050_000)
    assert len(wrong(told)) == 1


def test_a_wait_that_is_our_fault_is_no_age() -> None:
    told = Told(delivery={"max_age_secs": 50})
    told.document()
    event = told.event(1_000.0)
    first, moved = EPOCH_MS + 1_001_000, EPOCH_MS + 1_011_000
    told.copy(1_002.0, event, error_code="BaseCredentialsMissing", first_attempt_at_ms=first)
    told.refused(1_060.0, event, fault="moment")
    told.copy(1_062.0, event, "expired", error_code="ServiceUnavailable", first_attempt_at_ms=moved)
    assert wrong(told) == []
    told.copy(1_063.0, event, "expired", error_code="ServiceUnavailable", first_attempt_at_ms=first)
    (found,) = wrong(told)
    assert found.endswith("it waited on a retry topic for a cause of ours, and that wait counts for its age")
    told.copy(1_001.5, event, error_code="ServiceUnavailable", first_attempt_at_ms=first)
    assert wrong(told) == [], "the letter may come from this copy, which was read twice"


def denied_role(told: Told, event: Written) -> None:
    """Our identity may assume no role, and a worker blames the customer."""
    call = told.call(1_001.0, api="AssumeRole", target=ROLE, status=403, fault="ours", code="AccessDenied")
    told.copy(1_002.0, event, "blocked", error_code="AccessDenied", request_id=call.request_id)
    told.copy(1_003.0, event, "suspended", error_code="DestinationSuspended")


def test_a_denied_role_may_be_blamed_when_there_is_no_other() -> None:
    told, event = world()
    denied_role(told, event)
    assert wrong(told) == []


def test_the_role_of_another_account_tells_that_our_identity_is_to_blame() -> None:
    told, event = world()
    other = {"mode": "ASSUME_ROLE", "roleArn": "arn:aws:iam::999999999999:role/Writer", "externalId": "external-2"}
    told.document(name="dst_two", customerExternalId="acct_two", busArn=BUS.replace("123456789012", "999999999999"),
                  auth=other)  # fmt: skip
    denied_role(told, event)
    blocked, suspended = wrong(told)
    assert "the cause was ours in the call" in blocked
    assert "AWS never refused this destination" in suspended


def test_a_jump_of_a_clock_expires_nothing() -> None:
    told, event = world()
    told.refused(500.0, told.event(499.0, 9), fault="moment")
    told.copy(1_060.0, event, "expired")
    told.evidence.disturbances.append(Disturbance(1_050.0, 1_100.0, "clock", "worker-1"))
    assert len(wrong(told)) == 1
    told.evidence.disturbances.append(Disturbance(450.0, 490.0, "clock", "worker-1"))
    assert len(wrong(told)) == 1
    told.evidence.disturbances.append(Disturbance(530.0, 590.0, "clock", "worker-1"))
    assert wrong(told) == [], "the worker had just begun"
