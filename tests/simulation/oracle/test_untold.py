"""Commits that do not tell what was delivered."""

from __future__ import annotations

import pytest

from tests.simulation.oracle.evidence import Call, Disturbance
from tests.simulation.oracle.told import EVENTS, WORKER, Told, delivered
from tests.simulation.oracle.untold import find_untold


def behind() -> tuple[Told, Call]:
    """A cursor has the event 1, which comes at 1,010 s. The commit 20 s later still has it."""
    told, _ = delivered()
    event = told.event(1_003.0, 7)
    told.commit(1_004.0, 2, cursors=[told.cursor(1, 1)])
    call = told.call(1_010.0, event)
    told.commit(1_030.0, 2, cursors=[told.cursor(1, 1)])
    return told, call


def untold(told: Told) -> list[str]:
    return [violation.sentence.rpartition(", ")[2] for violation in find_untold(told.story)]


def test_a_cursor_that_keeps_what_was_delivered_is_found() -> None:
    assert untold(behind()[0]) == ["which it had delivered at 1010.000"]


def test_a_cursor_that_goes_on_is_none() -> None:
    told, _ = behind()
    told.evidence.commits.pop()
    told.commit(1_024.9, 2, cursors=[told.cursor(1, 1)])
    assert untold(told) == [], "it may still be late"
    told.commit(1_030.0, 2, cursors=[told.cursor(1, 2)])
    assert untold(told) == []


def test_the_next_owner_may_not_know() -> None:
    told, _ = behind()
    told.assign(1_020.0, WORKER)
    assert untold(told) == []


@pytest.mark.parametrize("lost", ["answer", "garbled", "host"])
def test_a_worker_may_not_know_of_an_arrival(lost: str) -> None:
    told, call = behind()
    match lost:
        case "answer":
            call.answered_at = None
        case "garbled":
            call.is_garbled = True
        case _:
            call.host = "worker-2"
    assert untold(told) == []


def test_an_event_that_came_otherwise_is_none() -> None:
    told, _ = behind()
    told.copy(1_009.0, told.evidence.on(EVENTS)[1])
    assert untold(told) == []
    told, _ = behind()
    told.event(1_008.0, 7)
    assert untold(told) == [], "its twin may have come"


@pytest.mark.parametrize(("at", "found"), [(1_020.0, 0), (1_060.0, 1)])
def test_a_trouble_of_kafka_delays_commits(at: float, found: int) -> None:
    told, _ = behind()
    told.evidence.disturbances.append(Disturbance(at, at, "kafka"))
    assert len(untold(told)) == found
