from __future__ import annotations

from tests.simulation.kafka.groups import Commit
from tests.simulation.kafka.partition_log import NewRecord
from tests.simulation.people.drawing import draw_plan
from tests.simulation.people.events import good_event
from tests.simulation.plan import Plan
from tests.simulation.stage import opened


def quiet_plan() -> Plan:
    plan = draw_plan(3, "calm")
    return plan.with_troubles([])


def test_a_trouble_is_mended_once_at_its_time() -> None:
    mended = list[float]()
    with opened(quiet_plan()) as world:
        world.prepare()
        world.mend_later(10.0, "a thing", lambda: mended.append(world.elapsed))
        world.scheduler.run(world.scheduler.now + 20.0)
        world.heal()
    assert mended == [10.0]


def test_the_world_heals_whatever_is_still_broken() -> None:
    mended = list[str]()
    with opened(quiet_plan()) as world:
        world.prepare()
        for name in ("first", "second"):
            world.mend_later(500.0, name, lambda name=name: mended.append(name))  # type: ignore[misc]
        world.trouble_later(300.0, lambda: mended.append("a fault after the last fault"))
        world.scheduler.run(world.scheduler.now + 20.0)
        world.heal()
        world.scheduler.run(world.scheduler.now + 1_000.0)
        assert world.evidence.healed_at == world.scheduler.now - 1_000.0
    assert mended == ["first", "second"]


def test_hosts_of_one_moment_have_different_names() -> None:
    with opened(quiet_plan()) as world:
        assert [world.new_host("producer").name for _ in range(3)] == [
            "producer-0.0",
            "producer-0.0-2",
            "producer-0.0-3",
        ]


def test_every_topic_and_account_of_the_plan_exists() -> None:
    plan = quiet_plan()
    with opened(plan) as world:
        world.prepare()
        topics, events = world.cluster.topics, world.settings.topics.events
        assert {*world.settings.topics.retry, events, world.settings.topics.dlq} <= topics.keys()
        assert len(topics[events].partitions) == plan.partitions
        assert {customer.bus_arn for customer in world.customers.values()} == world.cloud.accounts.buses.keys()


def test_some_topics_had_leaders_before() -> None:
    with opened(quiet_plan()) as world:
        world.prepare()
        epochs = {log.epoch for topic in world.cluster.topics.values() for log in topic.partitions}
    assert len(epochs) > 1
    assert max(epochs) <= 3


def test_nothing_to_read_is_settled_and_an_uncommitted_event_is_not() -> None:
    plan = quiet_plan()
    with opened(plan) as world:
        world.prepare()
        assert world.is_settled()
        topic = world.cluster.topic(world.settings.topics.events)
        assert topic is not None
        topic.partitions[0].append([_new_record(plan)])
        assert not world.is_settled()


def test_the_marker_of_a_transaction_is_committed_too() -> None:
    with opened(quiet_plan()) as world:
        world.prepare()
        topic = world.cluster.topic(world.settings.topics.events)
        assert topic is not None
        topic.partitions[0].end_transaction((1, 0), is_committed=True)
        assert not world.is_settled()
        group = world.cluster.coordinator(world.settings.kafka.group_id)
        group.move({(topic.name, 0): Commit(1, "")})
        assert world.is_settled()


def test_an_open_transaction_is_waited_for() -> None:
    plan = quiet_plan()
    with opened(plan) as world:
        world.prepare()
        topic = world.cluster.topic(world.settings.topics.events)
        assert topic is not None
        topic.partitions[0].append([_new_record(plan)], producer=(1, 0), sequence=0, is_transactional=True)
        assert topic.partitions[0].last_stable == 0
        assert not world.is_settled()


def _new_record(plan: Plan) -> NewRecord:
    sent = good_event(plan.dice("test"), plan.customers[0], "key-1", 1_780_000_000_000)
    return NewRecord(sent.key, sent.value)
