from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from pushrail_stream.core.record import Origin
from tests.simulation.kafka.groups import Commit
from tests.simulation.people.drawing import draw_plan
from tests.simulation.people.kafka import EVENTS, recreate_topic
from tests.simulation.people.operators import skip_unreadable
from tests.simulation.people.registry import prepare_registry
from tests.simulation.stage import opened
from tests.simulation.world import World

_SECS = 30.0
"""Virtual seconds in which a command ends."""


def run(world: World) -> None:
    assert world.scheduler.run_until(world.office.is_idle, _SECS)
    world.scheduler.run(world.scheduler.now + 1.0)


def orders(world: World) -> int:
    topic = world.cluster.topic(world.settings.topics.replays)
    assert topic is not None
    return sum((record.key or b"").startswith(b"skip:") for log in topic.partitions for record in log.records)


def unreadable(world: World) -> Origin:
    world.prepare()
    world.office.do("prepare", prepare_registry, world)
    run(world)
    events = world.cluster.topic(EVENTS)
    assert events is not None
    return Origin(EVENTS, 0, events.partitions[0].append_unreadable(3, KafkaError._BAD_COMPRESSION))


def commit(world: World, offset: int) -> None:
    world.cluster.coordinator(world.settings.kafka.group_id).move({(EVENTS, 0): Commit(offset, "")})


@pytest.mark.parametrize(("is_lost", "committed", "again"), [(True, 0, 1), (True, 3, 0), (False, 0, 0)])
def test_an_order_to_skip_that_is_lost_is_given_again(*, is_lost: bool, committed: int, again: int) -> None:
    with opened(draw_plan(3, "calm").with_troubles([])) as world:
        world.office.do("skip", skip_unreadable, world, unreadable(world))
        run(world)
        assert orders(world) == 1
        if is_lost:
            recreate_topic(world, topic=world.settings.topics.replays, secs=1.0)
        world.scheduler.run(world.scheduler.now + 5.0)
        before = orders(world)
        commit(world, committed)
        world.heal()
        run(world)
        assert orders(world) - before == again


def test_a_batch_to_which_a_tool_moved_the_group_back_is_skipped() -> None:
    with opened(draw_plan(3, "calm").with_troubles([])) as world:
        at = unreadable(world)
        commit(world, 3)
        world.office.do("skip", skip_unreadable, world, at)
        run(world)
        assert orders(world) == 0, "the group has passed the batch, so the order is refused"
        commit(world, 0)
        world.heal()
        run(world)
        assert orders(world) == 1
