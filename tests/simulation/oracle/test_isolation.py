"""Healthy customers that wait for others."""

from __future__ import annotations

from pushrail_stream.core.event import Event, decode
from pushrail_stream.core.outcome import Retryable
from pushrail_stream.core.retry import Settled
from tests.simulation.oracle.evidence import Disturbance, SignalSeen, WorkerEnd
from tests.simulation.oracle.isolation import find_waits
from tests.simulation.oracle.told import ONE, WORKER, Told, event_value
from tests.support.builders import destination, modified
from tests.support.signals import attempted


def waits(told: Told) -> list[str]:
    return [violation.sentence for violation in find_waits(told.story)]


def slow() -> Told:
    """An event that arrives after a minute."""
    told = Told()
    told.document()
    told.call(1_060.0, told.event(1_000.0))
    return told


def test_a_healthy_delivery_that_waits_is_found() -> None:
    (found,) = waits(slow())
    assert found == (
        "the event at pushrail.events/0/0 of topic id-of-events, written at 1000.000, had not arrived at dst_one after "
        "26.1 s, although all calls for dst_one succeeded and nothing else failed"
    )


def test_a_delivery_within_the_hold_is_good() -> None:
    told = Told()
    told.document()
    told.call(1_009.0, told.event(1_000.0))
    assert waits(told) == []


def test_a_dead_letter_ends_the_wait() -> None:
    told = slow()
    told.copy(1_005.0, told.evidence.written[0], "oversize")
    assert waits(told) == []


def test_a_destination_that_fails_waits_for_itself() -> None:
    told = slow()
    told.refused(1_005.0, told.evidence.written[0], fault="moment")
    assert waits(told) == []


def test_a_destination_without_a_usable_document_is_not_healthy() -> None:
    told = Told()
    told.document(region="eu-west-1")
    told.event(1_000.0)
    assert waits(told) == []


def limited(events: int, **delivery: int) -> Told:
    """A customer sends several events at once, and its destination takes one call a second. The last one is late."""
    told = Told(delivery={"hold_secs": 5, **delivery})
    told.document(limits={"maxRequestsPerSecond": 1})
    sent = [told.event(1_000.0, number) for number in range(events)]
    for event in sent[:-1]:
        told.call(1_003.0, event)
    told.call(1_060.0, sent[-1])
    return told


def test_a_customer_that_exceeds_its_own_rate_waits_for_itself() -> None:
    assert len(waits(limited(5, max_entries=1))) == 1
    assert waits(limited(6, max_entries=1)) == []
    assert len(waits(limited(6, max_entries=2))) == 1
    assert waits(limited(11, max_entries=2)) == []


def test_the_events_of_others_take_nothing_of_a_rate() -> None:
    told = limited(5, max_entries=1)
    told.event(1_000.0, 5, value=event_value(5).replace(b"acct_one", b"acct_two"))
    told.event(900.0, 6)
    told.event(1_001.0, 7, is_readable=False)
    assert any("written at 1000.000" in sentence for sentence in waits(told))


def test_a_disturbance_of_the_fleet_is_no_other_customer() -> None:
    told = slow()
    told.evidence.disturbances.append(Disturbance(980.0, 980.0, "killed", "worker-2"))
    assert waits(told) == []
    other = slow()
    other.evidence.worker_ends.append(WorkerEnd(1_010.0, "worker-2", "w", "stopped"))
    assert waits(other) == []


def test_an_old_disturbance_explains_nothing() -> None:
    told = slow()
    told.evidence.disturbances.append(Disturbance(800.0, 810.0, "kafka"))
    assert len(waits(told)) == 1


def test_the_end_of_the_story_is_not_judged() -> None:
    told = slow()
    told.evidence.ended_at = 1_020.0
    assert waits(told) == []


def test_an_attempt_that_reached_no_server_is_a_failure_of_the_destination() -> None:
    told = slow()
    failed = attempted((Retryable("ConnectTimeout", ""), Settled()), destination=modified(destination(), id=ONE))
    told.evidence.signals.append(SignalSeen(900.0, WORKER, failed))
    assert len(waits(told)) == 1
    told.evidence.signals.append(SignalSeen(1_004.0, WORKER, failed))
    assert waits(told) == []


def _event() -> Event:
    event = decode(event_value(0), (), "acme")
    assert isinstance(event, Event)
    return event
