"""Troubles of the registry leave documents that work when the world has healed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.simulation.people.drawing import draw_plan
from tests.simulation.people.kafka import stop_all_brokers
from tests.simulation.people.registry import prepare_registry, seal_new_secret
from tests.simulation.stage import opened

_SECS = 120.0
"""Virtual seconds in which a command ends, and a customer deletes an old key."""


@pytest.mark.parametrize("can_seal", [True, False])
def test_a_customer_deletes_the_old_key_when_the_document_has_the_new_one(*, can_seal: bool) -> None:
    plan = draw_plan(3, "calm").with_troubles([])
    with opened(replace(plan, settings={**plan.settings, "registry": {"topic": True}})) as world:
        world.prepare()
        world.office.do("prepare", prepare_registry, world)
        assert world.scheduler.run_until(world.office.is_idle, _SECS)
        customer = next(one for one in world.customers.values() if one.destination.mode == "ACCESS_KEY")
        old = customer.access_key
        if not can_seal:
            stop_all_brokers(world, secs=30.0)
        seal_new_secret(world, destination=customer.destination.id)
        world.scheduler.run(world.scheduler.now + _SECS)
        world.heal()
        assert world.scheduler.run_until(world.office.is_idle, _SECS)
        assert world.cloud.accounts.credential(customer.access_key) is not None
        assert (world.cloud.accounts.credential(old) is None) == can_seal
