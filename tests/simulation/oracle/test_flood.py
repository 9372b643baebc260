"""Stops of the flood guard."""

from __future__ import annotations

from pushrail_stream.core.flood_guard import FloodReport
from pushrail_stream.core.signals import Flooded
from tests.simulation.oracle.evidence import SignalSeen
from tests.simulation.oracle.flood import find_wrong_stops
from tests.simulation.oracle.told import DLQ, WORKER, Told, event_value


def wrong(told: Told) -> list[str]:
    return [violation.sentence for violation in find_wrong_stops(told.story)]


def stop(told: Told, at: float) -> None:
    told.evidence.signals.append(SignalSeen(at, WORKER, Flooded(FloodReport(1, 1, 1, 1, 60.0))))


def flood(customers: int, count: int = 600) -> Told:
    """``count`` records that are no events, given up within 20 seconds."""
    told = Told(flood_guard={"min_dead_letters": 100, "min_customers": 5})
    told.document()
    told.call(900.0, told.event(890.0))
    for number in range(count):
        at = 1_000.0 + number / 30
        event = told.event(at, value=b"{}", key=f"acct_{number % customers}".encode())
        letter = told.copy(at, event, "undecodable", None)
        letter.record = letter.record._replace(key=event.record.key)
    return told


def test_a_flood_of_one_customer_stops_nothing() -> None:
    told = flood(1)
    assert wrong(told) == []
    stop(told, 1_010.0)
    assert wrong(told) == ["worker-1 stopped at 1010.000: 1 customers had dead letters by then, and a flood has 5"]


def test_a_flood_of_many_customers_stops_the_worker() -> None:
    (found,) = wrong(flood(20))
    assert found.startswith("worker-1 wrote 2")
    few = flood(20, 150)
    stop(few, 1_005.0)
    assert wrong(few) == []


def test_a_worker_whose_guard_is_off_never_stops() -> None:
    told = flood(20)
    told.evidence.unguarded.add("worker-2")
    assert len(wrong(told)) == 1
    told.evidence.unguarded.add(WORKER)
    assert wrong(told) == []


def test_a_flood_needs_customers_who_have_little_else() -> None:
    """Five customers are enough, unless one of them has many other records."""
    assert len(wrong(flood(5))) == 1
    assert wrong(flood(4)) == []
    told = flood(5)
    for number in range(200):
        event = told.event(1_000.0, value=event_value(number, customerExternalId="acct_3"))
        told.call(1_000.0 + number / 10, event)
    assert wrong(told) == []


def test_letters_that_kafka_took_late_were_counted_before() -> None:
    told = flood(20)
    for one in told.evidence.written:
        if one.record.topic == DLQ:
            one.at = 1_100.0 + one.at / 1_000
    assert wrong(told) == []


def test_dead_letters_among_many_deliveries_are_no_flood() -> None:
    told = flood(20)
    event = told.event(1_000.0)
    for number in range(400):
        told.call(1_000.0 + number / 20, event)
    assert wrong(told) == []
