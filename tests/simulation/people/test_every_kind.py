"""Each kind of troubles can happen, and the world heals from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from tests.simulation.people.drawing import draw_plan
from tests.simulation.people.registry import prepare_registry
from tests.simulation.people.troubles import Kind, kinds_of
from tests.simulation.stage import opened

pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
"""A host may be killed between the making of a coroutine and its first step."""
_PAUSE_SECS: Final = 6.0
"""Virtual seconds between two troubles."""
_STORIES: Final = 4
KINDS: Final = kinds_of("hostile")


@pytest.mark.parametrize("kinds", [KINDS[first::_STORIES] for first in range(_STORIES)])
def test_troubles_happen_and_are_mended(kinds: list[Kind]) -> None:
    plan = draw_plan(2, "calm")
    plan = replace(plan, workers=2, settings={**plan.settings, "registry": {"topic": False}})
    dice = plan.dice("troubles")
    plan = plan.with_troubles(kind.draw(dice, plan, at * _PAUSE_SECS) for at, kind in enumerate(kinds, 1))
    with opened(plan) as world:
        world.prepare()
        world.office.do("prepare", prepare_registry, world)
        world.scheduler.run(world.scheduler.now + 1.0)
        world.schedule()
        world.fleet.scale(plan.workers)
        world.scheduler.run(world.scheduler.now + (len(kinds) + 2) * _PAUSE_SECS)
        world.heal()
        assert world.scheduler.run_until(world.office.is_idle, 300.0)
        world.scheduler.run(world.scheduler.now + 10.0)
        assert {kind.name for kind in kinds} <= world.history.faults.keys()  # one may also come while another goes on
        assert all(world.cluster.is_up(broker) for broker in world.cluster.brokers)
        assert {customer.bus_arn for customer in world.customers.values()} <= world.cloud.accounts.buses.keys()
        assert world.fleet.running
    raised = [f"{text.where}: {text.text}" for text in world.evidence.raised]
    failed = [end.problem for end in world.evidence.worker_ends if end.how == "failed"]
    assert raised == failed == []
