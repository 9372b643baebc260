from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.plan import Plan
from tests.simulation.story import draw_plan, play, read_plan, with_kinds

pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
"""A host may be killed between the making of a coroutine and its first step."""


def short(seed: int) -> Plan:
    """A calm story of which the first minute is played."""
    plan = draw_plan(seed, "calm")
    troubles = [trouble for trouble in plan.troubles if trouble.at < 60.0]
    return replace(plan, secs=90.0, troubles=tuple(troubles))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_calm_story_keeps_every_promise(seed: int) -> None:
    outcome = play(short(seed))
    assert [str(one) for one in outcome.violations] == []
    assert outcome.counts["events"] > 0
    assert outcome.counts["deliveries"] > 0


def test_one_plan_gives_one_history() -> None:
    plan = short(4)
    assert play(plan).hash == play(read_plan(plan.as_json())).hash != play(short(5)).hash


def test_kinds_can_be_demanded() -> None:
    plan = with_kinds(draw_plan(1, "rough").with_troubles([]), ["kill_worker", "aws.late"])
    assert {trouble.name for trouble in plan.troubles} == {"kill_worker"}
    assert plan.rates["aws.late"] > 0


def test_a_need_may_fix_details_and_settings() -> None:
    plan = draw_plan(1, "calm")
    needed = with_kinds(plan, ["settings?delivery.max_age_secs=45", "delete_bus?secs=60&destination=dst_1_0"])
    assert needed.settings["delivery"] == {**plan.settings["delivery"], "max_age_secs": 45}
    assert {
        (one.details["secs"], one.details["destination"]) for one in needed.troubles if one.name == "delete_bus"
    } == {(60, "dst_1_0")}


def test_a_need_may_fix_details_of_all_destinations() -> None:
    needed = with_kinds(draw_plan(5, "calm"), ["destinations?region=eu-west-1&is_v2=false"])
    assert {(one.region, one.is_v2) for one in needed.destinations} == {("eu-west-1", False)}


def test_a_need_may_fix_the_time() -> None:
    needed = with_kinds(draw_plan(1, "calm").with_troubles([]), ["delete_bus?at=0&secs=60"])
    assert [(one.at, one.name, one.details["secs"]) for one in needed.troubles] == [(0.0, "delete_bus", 60)]


def test_a_need_may_leave_a_detail_empty() -> None:
    needed = with_kinds(draw_plan(1, "calm").with_troubles([]), ["fall_behind?at=5&meanwhile="])
    assert [one.details["meanwhile"] for one in needed.troubles] == [""]
