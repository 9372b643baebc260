"""Reports of `check` that are wrong."""

from __future__ import annotations

import pytest

from tests.simulation.oracle.checks import find_wrong_reports
from tests.simulation.oracle.evidence import CheckedDelivery, CheckRun, Written
from tests.simulation.oracle.told import EVENTS, ONE, TIER, Told, delivered


def wrong(told: Told, *statuses: tuple[str, Written]) -> list[str]:
    lines = tuple(CheckedDelivery(status, event.origin, ONE) for status, event in statuses)
    told.evidence.checks = [CheckRun(2_000.0, 2_001.0, lines)]
    return [violation.sentence.rpartition(": ")[2] for violation in find_wrong_reports(told.story)]


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        ("delivered", []),
        ("dead_lettered", ["there is no letter"]),
        ("skipped", ["there is no record of a skip"]),
        ("missing", ["the attempts log has it as delivered"]),
        ("too_new", ["the attempts log has it as delivered"]),
    ],
)
def test_a_delivery_that_arrived_is_reported_as_that(status: str, problem: list[str]) -> None:
    told, event = delivered()
    assert wrong(told, (status, event)) == problem


def test_a_lost_delivery_is_not_reported_as_delivered() -> None:
    told, first = delivered()
    event = told.event(1_003.0, 7)
    assert wrong(told, ("delivered", first), ("delivered", event)) == ["it never arrived"]


def test_an_open_record_is_not_missing() -> None:
    told, first = delivered()
    event = told.event(1_003.0, 7)
    assert wrong(told, ("delivered", first), ("missing", event)) == ["no commit covers it yet"]
    told.commit(1_004.0, 2)
    assert wrong(told, ("delivered", first), ("missing", event)) == []


def test_a_copy_that_waits_is_not_missing() -> None:
    told, first = delivered()
    event = told.event(1_003.0, 7)
    told.copy(1_003.5, event)
    told.commit(1_004.0, 2)
    assert wrong(told, ("delivered", first), ("missing", event)) == ["its copy waits on a retry topic"]
    told.commit(1_100.0, 1, TIER)
    assert wrong(told, ("delivered", first), ("missing", event)) == []


def test_a_dead_letter_is_not_missing() -> None:
    told, first = delivered()
    event = told.event(1_003.0, 7)
    told.copy(1_003.5, event, "blocked")
    told.commit(1_004.0, 2)
    assert wrong(told, ("delivered", first), ("missing", event)) == ["there is a dead letter"]
    assert wrong(told, ("delivered", first), ("dead_lettered", event)) == []


def test_the_arrival_of_a_record_with_the_same_bytes_says_nothing() -> None:
    """A producer had repeated itself, and the record of the first arrival was lost with its worker."""
    told, first = delivered()
    twin = told.event(1_003.0)
    told.commit(1_004.0, 2)
    assert wrong(told, ("delivered", first), ("missing", twin)) == []
    told.call(1_003.5, twin)
    assert wrong(told, ("delivered", first), ("missing", twin)) == ["it arrived at 1003.500"]


def test_no_event_is_left_out() -> None:
    told, first = delivered()
    told.event(1_003.0, 7)
    assert wrong(told, ("delivered", first)) == [
        "the check at 2000.000 leaves pushrail.events/0/1 of topic id-of-events out"
    ]
    told.evidence.written[-1].gone_at = 1_500.0
    assert wrong(told, ("delivered", first)) == []


def test_a_position_with_several_records_is_not_judged() -> None:
    """The attempts log tells no record of a truncated log from the one that took its offset."""
    told, event = delivered()
    event.gone_at = 1_500.0
    second = told.event(1_501.0, 7)
    second.record = second.record._replace(offset=0)
    assert wrong(told, ("delivered", second)) == []


def test_a_record_of_an_older_topic_says_nothing_of_the_new_one() -> None:
    told, first = delivered()
    event = told.event(1_003.0, 7)
    origin = {"topic": EVENTS, "partition": 0, "offset": 1, "topicId": "deleted"}
    told.commit(1_004.0, 2)
    told.attempt(1_003.5, event, status="dead_lettered", attempt=0, origin=origin)
    assert wrong(told, ("delivered", first), ("missing", event)) == []
