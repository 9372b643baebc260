"""Commits that forget what a cursor had delivered."""

from __future__ import annotations

import pytest

from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import PartitionRestarted
from tests.simulation.oracle.evidence import Disturbance, SignalSeen
from tests.simulation.oracle.forgotten import find_forgotten
from tests.simulation.oracle.told import EVENTS, WORKER, Told, delivered


def forgotten(told: Told) -> list[str]:
    return [violation.sentence.partition(" where ")[2] for violation in find_forgotten(told.story)]


def gone_back() -> Told:
    """A cursor was at 8 and had 3 and 6 open. It is at 7."""
    told, _ = delivered()
    told.commit(1_003.0, 4, cursors=[told.cursor(2, 8, None, 3, 6)])
    told.commit(1_004.0, 5, cursors=[told.cursor(2, 7, None, 3)], host="worker-2")
    return told


def test_a_cursor_goes_on() -> None:
    told, _ = delivered()
    told.commit(1_003.0, 4, cursors=[told.cursor(2, 8, None, 3, 6)])
    told.commit(1_004.0, 4, cursors=[told.cursor(2, 9, None, 1, 6)])
    told.commit(1_005.0, 5, cursors=[told.cursor(2, 12, 15)])
    told.commit(1_006.0, 15)
    assert forgotten(told) == [], "one from before the cursor was taken over late"


def test_a_cursor_that_goes_back_is_found() -> None:
    assert forgotten(gone_back()) == ["the cursor of dst_one was at 8, and is at 7"]


def test_a_cursor_that_has_a_delivered_event_again_is_found() -> None:
    told, _ = delivered()
    told.commit(1_003.0, 4, cursors=[told.cursor(2, 8, None, 3, 6)])
    told.commit(1_004.0, 4, cursors=[told.cursor(2, 9, None, 5, 6)])
    assert forgotten(told) == ["the cursor of dst_one had delivered 5, and has it again"]


@pytest.mark.parametrize(("to", "end"), [(None, 8), (10, 10)])
def test_a_cursor_that_ends_above_the_commit_is_found(to: int | None, end: int) -> None:
    told, _ = delivered()
    told.commit(1_003.0, 4, cursors=[told.cursor(2, 8, to)])
    told.commit(1_004.0, end - 1)
    assert forgotten(told) == [f"the cursor of dst_one ended, which had the events below {end}"]
    told.evidence.commits.pop()
    told.commit(1_004.0, end)
    assert forgotten(told) == []


@pytest.mark.parametrize("kind", ["operator", "log"])
def test_a_tool_or_a_loss_of_kafka_excuses_it(kind: str) -> None:
    told = gone_back()
    told.evidence.disturbances.append(Disturbance(1_004.1, 1_004.1, kind))  # type: ignore[arg-type]
    assert len(forgotten(told)) == 1, "it came later"
    told.evidence.disturbances.append(Disturbance(1_003.5, 1_003.5, kind))  # type: ignore[arg-type]
    assert forgotten(told) == []


def test_a_log_that_was_cut_off_excuses_it() -> None:
    told = gone_back()
    told.evidence.signals.append(SignalSeen(1_003.5, WORKER, PartitionRestarted(Partition(EVENTS, 1), "went_back", 7)))
    assert len(forgotten(told)) == 1, "it is another partition"
    told.evidence.signals.append(SignalSeen(1_003.5, WORKER, PartitionRestarted(Partition(EVENTS, 0), "went_back", 7)))
    assert forgotten(told) == []


def test_the_commit_of_a_tool_begins_anew() -> None:
    told, _ = delivered()
    told.commit(1_003.0, 4, cursors=[told.cursor(2, 8)])
    told.commit(1_004.0, 3, host="")
    told.commit(1_005.0, 3)
    assert forgotten(told) == []
