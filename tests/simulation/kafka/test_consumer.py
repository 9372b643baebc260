"""Membership of groups: rebalances, sessions, static members, refusals, and coordinators that are away."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.simulation.kafka.consumer_group import Timing
from tests.simulation.kafka.consumer_stage import KIP_848, TOPIC, ConsumerStage, Member
from tests.simulation.kafka.groups import Commit
from tests.simulation.kafka.network import Fate

both_protocols = pytest.mark.parametrize("protocol", ["classic", "consumer"])


def staged(protocol: str, partitions: int = 1, **properties: Any) -> ConsumerStage:
    chosen = {"group.protocol": "classic"} if protocol == "classic" else KIP_848
    stage = ConsumerStage(partitions, **chosen, **properties)
    stage.coordinators.timing = Timing(session_secs=10.0, interval_secs=1.0)
    return stage


@both_protocols
def test_a_member_reads_commits_and_goes_on(protocol: str) -> None:
    stage = staged(protocol, 2)
    stage.append(range(5))
    seen: list[list[str]] = []

    def work() -> None:
        member = Member(stage, stage.consumer())
        member.subscribe()
        member.poll(30, lambda: len(member.values) >= 5 - 3 * len(seen))
        seen.append(member.values)
        assert member.position() == 5
        assert member.commit(3, metadata="map") is None
        member.consumer.close()
        assert member.told == [("assign", [0, 1]), ("revoke", [0, 1])]

    stage.run(work)
    stage.run(work)
    assert seen == [["0", "1", "2", "3", "4"], ["3", "4"]]
    assert stage.commits == {0: Commit(3, "map", 0)}


@both_protocols
def test_two_members_share_and_hand_over(protocol: str) -> None:
    stage = staged(protocol, 4)
    members: list[Member] = []
    read: list[str] = []

    def first() -> None:
        member = Member(stage, stage.consumer())
        members.append(member)
        member.subscribe()
        member.poll(20)
        assert len(member.owned) == 2
        assert [kind for kind, _ in member.told].count("revoke") == 1
        member.poll(20)
        assert len(member.owned) == 4, "the other one has left"
        member.consumer.close()
        read.extend(member.values)

    def second() -> None:
        stage.sleep(5.0)
        member = Member(stage, stage.consumer())
        members.append(member)
        member.subscribe()
        member.poll(15)
        assert len(member.owned) == 2
        assert not member.owned & members[0].owned
        stage.append(["a"], min(member.owned))
        member.poll(2)
        assert member.values == ["a"]
        assert member.commit(1, min(member.owned)) is None
        member.consumer.close()

    stage.run(first, second)
    assert read == [], "the commit was made before the hand-over"


@both_protocols
def test_a_killed_member_is_replaced(protocol: str) -> None:
    stage = staged(protocol, 2)

    def victim() -> None:
        member = Member(stage, stage.consumer())
        member.subscribe()
        member.poll(1_000)

    host = stage.start(victim)
    stage.scheduler.run(stage.scheduler.now + 5)
    host.kill()
    times = []

    def successor() -> None:
        member = Member(stage, stage.consumer())
        begun = stage.scheduler.now
        member.subscribe()
        member.poll(60, lambda: len(member.owned) == 2)
        times.append(stage.scheduler.now - begun)
        member.consumer.close()

    stage.run(successor)
    assert 5 < times[0] < 15, "a session after the last heartbeat"


@both_protocols
def test_a_stopped_process_loses_its_partitions(protocol: str) -> None:
    """SIGSTOP for longer than a session, then SIGCONT."""
    stage = staged(protocol)
    seen: list[Member] = []

    def work() -> None:
        member = Member(stage, stage.consumer())
        seen.append(member)
        member.subscribe()
        member.poll(60)

    host = stage.start(work)
    stage.scheduler.run(stage.scheduler.now + 5)
    host.pause()
    stage.scheduler.run(stage.scheduler.now + 20)
    host.resume()
    stage.scheduler.run(stage.scheduler.now + 20)
    assert seen[0].told == [("assign", [0]), ("lost", [0]), ("assign", [0])]


@both_protocols
def test_a_member_that_does_not_poll_is_put_out(protocol: str) -> None:
    stage = staged(protocol, **{"max.poll.interval.ms": 12_000})

    def work() -> None:
        member = Member(stage, stage.consumer())
        member.subscribe()
        member.poll(20, lambda: bool(member.owned))
        stage.sleep(20)
        member.poll(20, lambda: member.told[-1][0] == "assign" and len(member.told) > 1)
        assert member.errors == [KafkaError._MAX_POLL_EXCEEDED]
        assert member.told == [("assign", [0]), ("lost", [0]), ("assign", [0])]
        member.consumer.close()

    stage.run(work)


@both_protocols
def test_a_long_poll_is_polling(protocol: str) -> None:
    stage = staged(protocol, **{"max.poll.interval.ms": 12_000})

    def work() -> None:
        member = Member(stage, stage.consumer())
        member.subscribe()
        member.poll(5)
        assert member.consumer.poll(60) is None
        assert member.told == [("assign", [0])]
        member.consumer.close()

    stage.run(work)


@both_protocols
def test_a_static_member_comes_back_unnoticed(protocol: str) -> None:
    stage = staged(protocol, 2)
    told: list[Any] = []

    def stays() -> None:
        member = Member(stage, stage.consumer(group_instance_id="pod-1"))
        member.subscribe()
        member.poll(30)
        told.extend(member.told)
        member.consumer.close()

    def restarts() -> None:
        stage.sleep(1)
        part = None
        for _ in range(2):
            member = Member(stage, stage.consumer(group_instance_id="pod-2"))
            member.subscribe()
            member.poll(8)
            assert len(member.owned) == 1
            assert part in {None, frozenset(member.owned)}
            part = frozenset(member.owned)
            member.consumer.close()

    stage.run(stays, restarts)
    assert [numbers for kind, numbers in told if kind == "revoke" and numbers] == [[told[1][1][0]]], told


@both_protocols
def test_one_of_two_equal_names_ends(protocol: str) -> None:
    stage = staged(protocol)
    fatal: list[str] = []

    def work() -> None:
        consumer = stage.consumer(group_instance_id="pod-1")
        member = Member(stage, consumer)
        member.subscribe()
        for _ in range(100):
            message = consumer.poll(0.1)
            error = None if message is None else message.error()
            if error is not None:
                assert error.code() == KafkaError._FATAL
                fatal.append(error.str())
                break
        consumer.close()

    stage.run(work, work)
    [text] = fatal
    assert "instance" in text.lower()


@both_protocols
def test_new_partitions_are_read(protocol: str) -> None:
    stage = staged(protocol)

    def work() -> None:
        member = Member(stage, stage.consumer())
        member.subscribe()
        member.poll(5)
        stage.cluster.add_partitions(TOPIC, 3)
        stage.append(["new"], 2)
        member.poll(30, lambda: bool(member.values))
        assert member.values == ["new"]
        assert member.told == [("assign", [0]), ("assign", [1, 2])]
        member.consumer.close()

    stage.run(work)


def test_a_refused_commit_ends_the_membership() -> None:
    stage = staged("classic")
    stage.append(["a"])

    def work() -> None:
        member = Member(stage, stage.consumer())
        member.subscribe()
        member.poll(5)
        for error in (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID):
            stage.fates["OffsetCommit"] = [Fate(error=error)]
            assert member.commit(1) == error
            member.poll(15)  # the group waits for the member that we were
            assert [kind for kind, _ in member.told[-2:]] == ["lost", "assign"]
        assert member.commit(1) is None
        member.consumer.close()

    stage.run(work)


def test_a_stale_epoch_is_mended_by_the_next_heartbeat() -> None:
    stage = staged("consumer")

    def work() -> None:
        member = Member(stage, stage.consumer())
        member.subscribe()
        member.poll(5)
        stage.fates["OffsetCommit"] = [Fate(error=KafkaError.STALE_MEMBER_EPOCH)]
        assert member.commit(1) == KafkaError.STALE_MEMBER_EPOCH
        member.poll(2)
        assert member.commit(1) is None
        assert member.told == [("assign", [0])]
        member.consumer.close()

    stage.run(work)


def test_an_assignment_that_was_replaced_is_not_followed() -> None:
    """The metadata that it waited for comes when the member has followed a newer one."""
    stage = staged("consumer", 2, **{"socket.timeout.ms": 20_000})
    stage.fates["Metadata"] = [Fate(), Fate(is_request_lost=True)]
    members: list[Member] = []

    def work() -> None:
        member = Member(stage, stage.consumer())
        members.append(member)
        member.subscribe()
        member.poll(40)

    stage.start(work)
    stage.start(work, at=5.0)
    stage.scheduler.run(stage.scheduler.now + 30)
    assert members[0].told == [("assign", [0, 1]), ("revoke", [1]), ("assign", [])], "the next heartbeat asks again"
    assert [member.owned for member in members] == [{0}, {1}]


def test_commits_wait_for_a_rebalance_to_end() -> None:
    stage = staged("classic", 2)
    errors: list[int | None] = []

    def first() -> None:
        member = Member(stage, stage.consumer())
        member.subscribe()
        member.poll(5)
        stage.fates["SyncGroup"] = [Fate(answer_secs=3.0), Fate(answer_secs=3.0)]
        member.poll(2.5)
        errors.append(member.commit(1))
        member.poll(10)
        errors.append(member.commit(1))
        member.consumer.close()

    def second() -> None:
        stage.sleep(5.1)
        member = Member(stage, stage.consumer())
        member.subscribe()
        member.poll(10)
        member.consumer.close()

    stage.run(first, second)
    assert errors[1] is None


@both_protocols
def test_commits_survive_a_coordinator_that_is_away(protocol: str) -> None:
    stage = staged(protocol, **{"max.poll.interval.ms": 60_000})
    results: list[Any] = []

    def work() -> None:
        member = Member(stage, stage.consumer(on_commit=lambda error, places: results.append((error, places))))
        member.subscribe()
        member.poll(5)
        group = stage.coordinators.of("g")
        group.trouble = KafkaError.NOT_COORDINATOR
        member.consumer.commit(offsets=[TopicPartition(TOPIC, 0, 7)], asynchronous=True)
        stage.scheduler.call_later(4.0, setattr, group, "trouble", None)
        member.poll(10)
        [(error, [place])] = results
        assert error is None
        assert place.offset == 7
        assert member.told == [("assign", [0])], "the session goes on"
        member.consumer.close()

    stage.run(work)
    assert stage.commits == {0: Commit(7)}


def test_a_coordinator_that_is_away_for_a_session_costs_the_assignment() -> None:
    stage = staged("classic")

    def work() -> None:
        member = Member(stage, stage.consumer())
        member.subscribe()
        member.poll(5)
        group = stage.coordinators.of("g")
        group.trouble = KafkaError.COORDINATOR_NOT_AVAILABLE
        states = []
        member.consumer._properties["stats_cb"] = lambda text: states.append(orjson.loads(text)["cgrp"]["state"])
        assert member.commit(1) == KafkaError._WAIT_COORD, "it waits for the coordinator, at most for a session"
        member.poll(5)
        assert member.told == [("assign", [0]), ("lost", [0])]
        assert states[-1] != "up"
        group.trouble = None
        member.poll(20)
        assert member.told[-1] == ("assign", [0])
        assert states[-1] == "up"
        member.consumer.close()

    stage.run(work)


def test_a_commit_without_an_answer_is_repeated() -> None:
    stage = staged("classic", **{"socket.timeout.ms": 2_000})

    def work() -> None:
        member = Member(stage, stage.consumer())
        member.subscribe()
        member.poll(5)
        stage.fates["OffsetCommit"] = [Fate(is_answer_lost=True), Fate(is_request_lost=True)]
        assert member.commit(9) is None
        member.consumer.close()

    stage.run(work)
    assert stage.commits[0].offset == 9


def test_rights_of_the_group_are_withdrawn() -> None:
    stage = staged("classic")
    stage.cluster.acl.deny("group", "g", "Read")

    def work() -> None:
        member = Member(stage, stage.consumer())
        member.subscribe()
        member.poll(5)
        assert set(member.errors) == {KafkaError.GROUP_AUTHORIZATION_FAILED}
        member.consumer.close()

    stage.run(work)


def test_a_group_is_refused_for_good_by_kip_848() -> None:
    stage = staged("consumer")
    stage.cluster.acl.deny("group", "g", "Read")

    def work() -> None:
        member = Member(stage, stage.consumer())
        member.subscribe()
        member.poll(5)
        assert member.errors == [KafkaError._FATAL]
        member.consumer.close()

    stage.run(work)


@both_protocols
def test_a_tool_moves_a_group_only_while_it_is_empty(protocol: str) -> None:
    stage = staged(protocol)

    def work() -> None:
        member = Member(stage, stage.consumer())
        member.subscribe()
        member.poll(5)
        group = stage.coordinators.of("g")
        assert group.alter({(TOPIC, 0): Commit(5)}) == {(TOPIC, 0): KafkaError.UNKNOWN_MEMBER_ID}
        member.consumer.close()
        assert group.alter({(TOPIC, 0): Commit(5)}) == {(TOPIC, 0): None}

    stage.run(work)


def test_a_consumer_without_a_group_commits() -> None:
    stage = staged("classic")

    def work() -> None:
        consumer = stage.consumer()
        member = Member(stage, consumer)
        assert member.commit(5, metadata="x" * 5000) == KafkaError.OFFSET_METADATA_TOO_LARGE
        assert member.commit(5, metadata="map") is None
        [found] = consumer.committed([TopicPartition(TOPIC, 0)], timeout=5)
        assert (found.offset, found.metadata, found.leader_epoch) == (5, "map", 0)
        consumer.close()
        with pytest.raises(RuntimeError):
            consumer.poll(0)

    stage.run(work)


def test_committed_offsets_cannot_be_had() -> None:
    stage = staged("classic")
    stage.coordinators.of("g").trouble = KafkaError.COORDINATOR_LOAD_IN_PROGRESS

    def work() -> None:
        consumer = stage.consumer()
        with pytest.raises(KafkaException) as failed:
            consumer.committed([TopicPartition(TOPIC, 0)], timeout=5)
        assert failed.value.args[0].code() == KafkaError.COORDINATOR_LOAD_IN_PROGRESS
        stage.cluster.acl.deny("group", "g", "Describe")
        stage.coordinators.of("g").trouble = None
        with pytest.raises(KafkaException) as failed:
            consumer.committed([TopicPartition(TOPIC, 0)], timeout=5)
        assert failed.value.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED
        for number in stage.cluster.brokers:
            stage.cluster.stop_broker(number)
        with pytest.raises(KafkaException) as failed:
            consumer.committed([TopicPartition(TOPIC, 0)], timeout=5)
        assert failed.value.args[0].code() == KafkaError._TIMED_OUT
        consumer.close()

    stage.run(work)


def test_a_rebalance_waits_for_the_callback() -> None:
    stage = staged("classic", 2)
    order: list[str] = []

    def slow() -> None:
        member = Member(stage, stage.consumer())

        def revoke(_consumer: object, _places: object) -> None:
            order.append("revoking")
            stage.sleep(7)
            order.append("revoked")

        member.consumer.subscribe([TOPIC], on_assign=member._assign, on_revoke=revoke)
        member.poll(30)
        member.consumer.close()

    def newcomer() -> None:
        stage.sleep(5)
        member = Member(stage, stage.consumer())
        member.subscribe()
        member.poll(30, lambda: bool(member.owned))
        order.append("taken over")
        member.consumer.close()

    stage.run(slow, newcomer)
    assert order[:3] == ["revoking", "revoked", "taken over"]


def test_a_request_that_times_out_takes_its_connection_along() -> None:
    """The answer to a join may take as long as a poll; a commit that gets none ends the wait for it."""
    stage = staged("classic", **{"socket.timeout.ms": 3_000})
    stage.fates["JoinGroup"] = [Fate(), Fate(is_request_lost=True)]
    stage.fates["OffsetFetch"] = [Fate(is_answer_lost=True)]

    def work() -> None:
        member = Member(stage, stage.consumer())
        member.subscribe()
        member.poll(0.2)
        with pytest.raises(KafkaException):
            member.consumer.committed([TopicPartition(TOPIC, 0)], timeout=2)
        member.poll(10)
        assert member.owned == {0}
        member.consumer.close()

    stage.run(work)


def test_only_asynchronous_commits_are_reported() -> None:
    stage = staged("classic", 2)
    stage.coordinators.max_metadata_bytes = 10
    told: list[tuple[str | None, list[str | None]]] = []

    def note(error: Any, places: list[TopicPartition]) -> None:
        texts = [None if place.error is None else place.error.str() for place in places]
        told.append((None if error is None else error.str(), texts))

    def work() -> None:
        consumer = stage.consumer(on_commit=note)
        both = [TopicPartition(TOPIC, 0, 4, "x" * 11), TopicPartition(TOPIC, 1, 5, "short")]
        with pytest.raises(KafkaException) as failed:
            consumer.commit(offsets=both, asynchronous=False)
        assert failed.value.args[0].str() == "Commit failed: Broker: Offset metadata string too large"
        with pytest.raises(KafkaException):
            consumer.commit(offsets=[], asynchronous=False)
        assert consumer.commit(offsets=both, asynchronous=True) is None
        consumer.poll(1)
        consumer.close()

    stage.run(work)
    text = "Broker: Offset metadata string too large"
    assert told == [(text, [text, text])], "the partition that was committed has the error too"
    assert stage.commits == {1: Commit(5, "short")}
