"""Cursors that nobody serves."""

from __future__ import annotations

from tests.simulation.oracle.evidence import Disturbance
from tests.simulation.oracle.starving import find_starving
from tests.simulation.oracle.told import ONE, Told, delivered


def starving(told: Told) -> list[str]:
    return [violation.sentence for violation in find_starving(told.story)]


def behind() -> Told:
    """A destination is behind from 1,004 s on, and gets one call at 1,005 s."""
    told, event = delivered()
    told.event(1_003.0, 7)
    told.commit(1_004.0, 2, cursors=[told.cursor(1, 1)])
    told.call(1_005.0, event)
    return told


def test_a_cursor_that_gets_no_call_is_found() -> None:
    told = behind()
    (found,) = starving(told)
    assert found.startswith(f"{ONE} got no call from 1005.000 to ")
    assert found.endswith("although a cursor had the event at pushrail.events/0/1 of topic id-of-events")


def test_a_cursor_that_is_served_is_not() -> None:
    told = behind()
    told.call(1_010.0, told.evidence.written[-1])
    assert starving(told) == []


def test_an_event_that_kafka_lost_needs_no_call() -> None:
    told = behind()
    told.evidence.written[-1].gone_at = 1_006.0
    assert starving(told) == []


def test_a_destination_that_refuses_calls_may_wait() -> None:
    told = behind()
    told.refused(1_005.5, told.evidence.written[0])
    assert starving(told) == []


def test_a_disabled_destination_gets_no_call() -> None:
    told = behind()
    told.document(1_006.0, enabled=False)
    assert starving(told) == []


def test_a_trouble_of_kafka_delays_everything() -> None:
    told = behind()
    told.evidence.disturbances.append(Disturbance(1_004.0, 1_004.0, "kafka"))
    assert starving(told) == []
