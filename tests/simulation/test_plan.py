from __future__ import annotations

from random import Random

import pytest

from tests.simulation.people.drawing import draw_plan
from tests.simulation.plan import Plan, Trouble, as_profile, between, number


def test_a_plan_is_written_and_read_back() -> None:
    plan = draw_plan(7, "hostile")
    assert Plan.from_json(plan.as_json()) == plan


def test_a_plan_is_printed_with_every_trouble() -> None:
    plan = draw_plan(7, "calm").with_troubles([Trouble(3.25, "kill_worker", {"worker": 2})])
    assert str(plan).endswith("3.2 s  kill_worker(worker=2)")


def test_parts_of_a_plan_can_be_left_out() -> None:
    plan = draw_plan(7, "hostile")
    kind = next(iter(plan.rates))
    assert kind not in plan.without_rates(kind).rates
    assert len(plan.without_rates(kind).rates) == len(plan.rates) - 1
    assert plan.with_troubles(plan.troubles[:2]).troubles == plan.troubles[:2]


def test_dice_of_one_part_do_not_depend_on_other_parts() -> None:
    plan = draw_plan(7, "hostile")
    shorter = plan.with_troubles([])
    assert plan.dice("kafka").random() == shorter.dice("kafka").random() != plan.dice("aws").random()


def test_draws_stay_within_their_bounds() -> None:
    dice, plan = Random(1), draw_plan(1, "calm")
    assert {number(0, 2)(dice, plan) for _ in range(50)} == {0, 1, 2}
    found = [between(0.1, 100.0)(dice, plan) for _ in range(500)]
    assert all(0.1 <= one <= 100.0 for one in found)
    assert sum(one < 3.2 for one in found) > 150, "small values are as probable as large ones"


def test_an_unknown_profile_is_refused() -> None:
    assert as_profile("calm") == "calm"
    with pytest.raises(ValueError, match="wild: is none of calm, rough, hostile"):
        as_profile("wild")
