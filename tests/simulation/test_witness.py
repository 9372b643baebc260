from __future__ import annotations

import pytest

from pushrail_stream.core.record import NOT_UTF8
from tests.simulation.kafka.broker import Produced
from tests.simulation.kafka.groups import Commit
from tests.simulation.kafka.partition_log import NewRecord
from tests.simulation.people.drawing import EVENTS, draw_plan
from tests.simulation.people.producers import produce_events
from tests.simulation.plan import Plan
from tests.simulation.stage import opened
from tests.simulation.world import World


def quiet_plan() -> Plan:
    return draw_plan(3, "calm").with_troubles([])


def append(world: World, *values: bytes) -> None:
    topic = world.cluster.topic(EVENTS)
    assert topic is not None
    topic.partitions[0].append([NewRecord(b"key", value) for value in values])


def test_every_record_is_seen_with_its_acknowledgement() -> None:
    with opened(quiet_plan()) as world:
        world.prepare()
        produce_events(world, count=30, secs=3.0, hot=None, odd=0.0, repeats=0.0, transactions=False)
        world.scheduler.run(world.scheduler.now + 30.0)
        written = world.evidence.on(EVENTS)
        assert len(written) == len(world.acknowledged) == 30
        assert all(one.acknowledged_at is not None and one.acknowledged_at > one.at for one in written)
        assert {one.record.topic_id for one in written} == {world.cluster.topics[EVENTS].id}
        assert {one.record.value for one in written} == {sent.value for sent in world.sent.values()}


@pytest.mark.parametrize("is_heard", [True, False])
def test_an_answer_that_comes_after_its_connection_has_closed_acknowledges_nothing(*, is_heard: bool) -> None:
    with opened(quiet_plan()) as world:
        world.prepare()
        host = world.new_host("producer")

        def write() -> Produced:
            append(world, b"0")
            return Produced(base=0)

        world.cluster.network.request(host, 1, "Produce", write, lambda _answer: is_heard, 10.0)
        world.scheduler.run(world.scheduler.now + 5.0)
        (written,) = world.evidence.on(EVENTS)
        assert (written.acknowledged_at is not None) is is_heard


def test_records_that_kafka_loses_are_gone() -> None:
    with opened(quiet_plan()) as world:
        world.prepare()
        append(world, b"0", b"1", b"2", b"3")
        world.scheduler.run(world.scheduler.now + 5.0)
        world.cluster.elect(EVENTS, 0, 2, truncate_to=3)
        world.cluster.topics[EVENTS].partitions[0].remove_before(1)
        gone = [one.gone_at for one in world.evidence.on(EVENTS)]
        assert gone == [world.scheduler.now, None, None, world.scheduler.now]
        world.scheduler.run(world.scheduler.now + 5.0)
        world.cluster.delete_topic(EVENTS)
        gone = [one.gone_at for one in world.evidence.on(EVENTS)]
        assert gone[1] == gone[2] == world.scheduler.now != gone[0]


def test_the_creation_of_every_topic_is_noted() -> None:
    with opened(quiet_plan()) as world:
        world.prepare()
        first = world.cluster.topics[EVENTS].id
        world.cluster.delete_topic(EVENTS)
        world.scheduler.run(world.scheduler.now + 5.0)
        world.cluster.lag_of = lambda broker: 2.0 * broker
        second = world.cluster.create_topic(EVENTS).id
        created, heard_of = world.evidence.created, world.evidence.heard_of
        assert created[second] == world.scheduler.now == created[first] + 5.0
        assert (heard_of[first], heard_of[second]) == (created[first], created[second] + 6.0)


def test_aborted_and_damaged_records_cannot_be_read() -> None:
    with opened(quiet_plan()) as world:
        world.prepare()
        topic = world.cluster.topics[EVENTS]
        log = topic.partitions[0]
        log.append([NewRecord(b"k", b"aborted")], producer=(7, 0), sequence=0, is_transactional=True)
        log.end_transaction((7, 0), is_committed=False)
        log.append_unreadable(2, -1)
        append(world, b"good")
    assert [(one.record.offset, one.is_readable) for one in world.evidence.on(EVENTS)] == [
        (0, False), (2, False), (3, False), (4, True)
    ]  # fmt: skip


def test_records_behind_an_open_transaction_are_readable_when_it_ends() -> None:
    with opened(quiet_plan()) as world:
        world.prepare()
        log = world.cluster.topics[EVENTS].partitions[0]
        append(world, b"before")
        log.append([NewRecord(b"k", b"within")], producer=(7, 0), sequence=0, is_transactional=True)
        append(world, b"after")
        begun_at = world.scheduler.now
        world.scheduler.run(begun_at + 5.0)
        log.end_transaction((7, 0), is_committed=True)
        append(world, b"later")
        visible = [one.visible_at - begun_at for one in world.evidence.on(EVENTS)]
    assert visible == [0.0, 5.0, 5.0, 5.0]


def test_headers_without_a_name_in_utf8_are_seen_as_workers_see_them() -> None:
    with opened(quiet_plan()) as world:
        world.prepare()
        world.cluster.topics[EVENTS].partitions[0].append([NewRecord(b"k", b"v", ((b"\xff", b"x"), ("a", None)))])
        (one,) = world.evidence.on(EVENTS)
        assert one.record.headers == ((NOT_UTF8, b"x"), ("a", None))


@pytest.mark.parametrize("offset", [0, 7])
def test_a_commit_of_a_tool_has_no_host(offset: int) -> None:
    with opened(quiet_plan()) as world:
        world.prepare()
        world.cluster.coordinator("a group").move({(EVENTS, 0): Commit(offset, "text")})
        (commit,) = world.evidence.commits
        assert (commit.group, commit.partition, commit.host) == ("a group", (EVENTS, 0), "")
        assert (commit.committable.offset, commit.committable.metadata) == (offset, "text")
