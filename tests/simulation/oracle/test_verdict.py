"""The verdict on whole stories."""

from __future__ import annotations

from tests.simulation.oracle.evidence import Text
from tests.simulation.oracle.told import WORKER, delivered
from tests.simulation.oracle.verdict import judge


def test_a_good_story_breaks_no_promise() -> None:
    told, _ = delivered()
    assert judge(told.story) == []


def test_violations_of_all_assertions_are_told() -> None:
    told, event = delivered()
    told.call(1_010.0, event)
    told.evidence.raised.append(Text(1_011.0, WORKER, "task", "KeyError: 1"))
    assert {violation.assertion for violation in judge(told.story)} == {
        "repeats have a cause",
        "nothing raises out of a port",
    }


def test_the_first_violations_stand_for_many() -> None:
    told, _ = delivered()
    told.evidence.raised += [Text(1_011.0, WORKER, "task", "KeyError: 1")] * 100
    assert len(judge(told.story)) == 20
