"""A bus of eventbridgev2 knows an event that comes again, when the event's entry names it."""

from __future__ import annotations

from tests.simulation.oracle.doubles import find_doubles
from tests.simulation.oracle.told import BUS, Told
from tests.support.builders import v2_bus_arn

V2: str = v2_bus_arn("one")


def twice(second_at: float, *, bus: str = V2, is_repeat: bool = False) -> list[str]:
    """An event comes to its bus at 1,000 s, and again."""
    told = Told()
    told.document(type="EVENTBRIDGE_V2" if bus == V2 else "EVENTBRIDGE", busArn=bus)
    event = told.event(999.0)
    told.call(1_000.0, event, target=bus)
    again = told.call(second_at, event, target=bus)
    again.entries = tuple(one._replace(is_repeat=is_repeat) for one in again.entries)
    return [violation.sentence for violation in find_doubles(told.story)]


def test_an_event_that_comes_twice_in_time_is_found() -> None:
    (found,) = twice(1_299.0)
    assert found.startswith(f"{V2} got the event ")
    assert found.endswith("at 1000.000 and 1299.000")


def test_a_repeat_that_was_kept_once_is_right() -> None:
    assert twice(1_010.0, is_repeat=True) == []


def test_a_bus_forgets_after_300_seconds() -> None:
    assert twice(1_300.0) == []


def test_a_classic_bus_knows_no_repeats() -> None:
    assert twice(1_010.0, bus=BUS) == []
