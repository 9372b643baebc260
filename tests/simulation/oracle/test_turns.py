"""Copies of deliveries that waited for their turn."""

from __future__ import annotations

import pytest

from tests.simulation.oracle.evidence import Disturbance, Written
from tests.simulation.oracle.told import TIER, WORKER, Told
from tests.simulation.oracle.turns import find_climbed

SECOND = "pushrail.retry.2m"


def waited(told: Told, at: float = 1_010.0, topic: str = SECOND, reason: str = "held") -> Written:
    event = told.event(1_000.0)
    one = told.copy(at, event, reason, first_attempt_at_ms=0)
    one.record = one.record._replace(topic=topic)
    return one


def busy(answered_at: float = 1_009.5) -> Told:
    """A story whose destination took an event shortly before 1,010 s."""
    told = Told()
    told.document()
    told.call(answered_at - 0.1, told.event(990.0, 99))
    return told


def climbed(told: Told) -> int:
    return len(list(find_climbed(told.story)))


@pytest.mark.parametrize(
    ("topic", "reason", "found"),
    [(SECOND, "held", 1), (SECOND, "throttled", 1), (SECOND, "retryable", 0), (TIER, "held", 0)],
)
def test_a_delivery_that_waits_for_its_turn_stays_on_the_first_topic(topic: str, reason: str, found: int) -> None:
    told = busy()
    waited(told, topic=topic, reason=reason)
    assert climbed(told) == found


@pytest.mark.parametrize("answered_at", [1_008.9, 1_009.995, 1_010.5])
def test_a_destination_that_took_nothing_a_moment_before_may_be_silent(answered_at: float) -> None:
    told = busy(answered_at)
    waited(told)
    assert climbed(told) == 0


def test_a_failure_may_be_an_outage() -> None:
    told = busy()
    event = waited(told)
    told.refused(1_001.0, event).code = "ThrottlingException"
    assert climbed(told) == 1, "throttling is none"
    told.refused(1_001.0, event, fault="moment").code = "ServiceUnavailable"
    assert climbed(told) == 0


def test_a_worker_that_stood_still_may_know_no_answer() -> None:
    told = busy()
    waited(told)
    told.evidence.disturbances.append(Disturbance(1_005.0, 1_006.0, "paused", "worker-2"))
    assert climbed(told) == 1
    told.evidence.disturbances.append(Disturbance(1_005.0, 1_006.0, "paused", WORKER))
    assert climbed(told) == 0


def test_events_that_kafka_may_soon_remove_wait_on_the_last_topic() -> None:
    told = busy()
    waited(told)
    told.evidence.disturbances.append(Disturbance(1_020.0, 1_020.0, "log"))
    assert climbed(told) == 1
    told.evidence.disturbances.append(Disturbance(1_000.0, 1_000.0, "log"))
    assert climbed(told) == 0


def test_a_bus_of_two_destinations_tells_nothing() -> None:
    told = busy()
    told.document(name="dst_two")
    waited(told)
    assert climbed(told) == 0
