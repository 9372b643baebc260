"""The fleet: what its operators do, and what the oracle learns of it."""

from __future__ import annotations

from tests.simulation.people.drawing import draw_plan
from tests.simulation.stage import opened


def test_workers_after_a_flood_have_no_guard() -> None:
    with opened(draw_plan(3, "calm").with_troubles([])) as world:
        guard = world.fleet.settings.flood_guard.model_copy(update={"enabled": True})
        world.fleet.settings = world.fleet.settings.model_copy(update={"flood_guard": guard})
        world.prepare()
        world.fleet.scale(1)
        world.scheduler.run(world.scheduler.now + 10.0)
        assert world.evidence.unguarded == set()
        guarded = set(world.scheduler.hosts)
        world.fleet.end_flood()
        world.scheduler.run(world.scheduler.now + 100.0)
        assert world.evidence.unguarded
        assert not world.evidence.unguarded & guarded
