"""Destinations that fall behind."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.simulation.people.troubles import KINDS, kinds_of
from tests.simulation.plan import Plan, Trouble
from tests.simulation.story import draw_plan, play


def story(**details: object) -> Plan:
    """A calm story in which one destination falls behind."""
    plan = draw_plan(3, "calm")
    kinds_of("hostile")
    drawn = KINDS["fall_behind"].draw(plan.dice("lagging"), plan, 20.0)
    fixed = {"how": "call:ServiceUnavailable", "count": 300, "burst_secs": 3.0, "secs": 40.0, "meanwhile": ""}
    return replace(plan.with_troubles([replace(drawn, details={**drawn.details, **fixed, **details})]), rates={})


@pytest.mark.parametrize("how", ["call:ServiceUnavailable", "hang", "far"])
def test_a_destination_gets_a_cursor(how: str) -> None:
    outcome = play(story(how=how))
    assert outcome.violations == []
    assert outcome.states["cursor opened"] >= (how != "far")


def test_another_trouble_may_come_meanwhile() -> None:
    outcome = play(story(meanwhile="kill_worker", after_secs=15.0))
    assert outcome.violations == []
    assert outcome.faults["kill_worker"] == 1


def test_milder_profiles_have_milder_troubles_meanwhile() -> None:
    kinds_of("hostile")
    plan, draw = draw_plan(3, "rough"), KINDS["fall_behind"].draw
    drawn = Counter(draw(plan.dice(f"{number}"), plan, 1.0).details["meanwhile"] for number in range(500))
    assert drawn["kill_worker"]
    assert not drawn["recreate_topic"]
    assert isinstance(draw(plan.dice("one"), plan, 1.0), Trouble)
