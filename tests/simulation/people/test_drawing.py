from __future__ import annotations

from collections import Counter

import pytest

from pushrail_stream.settings.model import Settings
from tests.simulation.people.drawing import draw_plan
from tests.simulation.people.troubles import kinds_of
from tests.simulation.people.weather import AWS_RATES, KAFKA_RATES
from tests.simulation.plan import PROFILES, Profile

SEEDS = range(150)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_seed_gives_one_plan(profile: Profile) -> None:
    assert draw_plan(5, profile) == draw_plan(5, profile)
    assert draw_plan(5, profile) != draw_plan(6, profile)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_product_takes_all_drawn_settings(profile: Profile) -> None:
    for seed in SEEDS:
        Settings.model_validate(draw_plan(seed, profile).settings)


def test_hostile_stories_are_as_large_as_stated() -> None:
    for seed in SEEDS:
        plan = draw_plan(seed, "hostile")
        assert plan.secs >= 600
        events = sum(one.details["count"] for one in plan.troubles if one.name in {"produce_events", "fall_behind"})
        assert events >= 2_000
        assert 1 <= plan.workers <= 5


def test_every_kind_of_fault_is_drawn_and_none_in_every_story() -> None:
    found = Counter[str]()
    for seed in SEEDS:
        plan = draw_plan(seed, "hostile")
        found.update({trouble.name for trouble in plan.troubles} | plan.rates.keys())
    drawn = {kind.name for kind in kinds_of("hostile") if kind.often}
    drawn |= {"produce_events", "make_up_events", "fall_behind"}
    kinds = drawn | KAFKA_RATES.keys() | AWS_RATES.keys()
    assert found.keys() == kinds
    assert {kind for kind, count in found.items() if count == len(SEEDS)} == {"produce_events", "make_up_events"}


def test_calm_stories_have_no_faults() -> None:
    calm = {kind.name for kind in kinds_of("calm")}
    for seed in SEEDS:
        plan = draw_plan(seed, "calm")
        assert not plan.rates
        assert {trouble.name for trouble in plan.troubles} <= calm
    assert "kill_worker" not in calm


def test_destinations_fall_behind_in_most_hostile_stories_and_bring_no_more_events() -> None:
    counts = {profile: Counter[int]() for profile in PROFILES}
    for profile in PROFILES:
        for seed in SEEDS:
            plan = draw_plan(seed, profile)
            behind = [one.details["count"] for one in plan.troubles if one.name == "fall_behind"]
            counts[profile][len(behind)] += 1
            if behind:
                load = [one.details["count"] for one in plan.troubles if one.name == "produce_events"]
                assert plan.settings["limits"]["max_buffered_events"] >= 200
                assert sum(load) >= 0.4 * 600
                assert profile == "rough" or sum(load) + sum(behind) <= 2_300 + 420
    assert counts["calm"].keys() == {0}
    assert counts["rough"].keys() == {0, 1, 2}
    assert counts["hostile"].keys() == {0, 1, 2, 3}


def test_few_stories_have_many_calls() -> None:
    found = Counter(draw_plan(seed, "hostile").settings["delivery"]["max_in_flight"] for seed in SEEDS)
    assert found.keys() == {1, 2, 8, 32, 64, 256}
    assert found[32] + found[64] + found[256] < len(SEEDS) / 3
