"""Commits on their way to the coordinator: their order, their member, and the ends of their waits."""

from __future__ import annotations

from typing import Any

from confluent_kafka import KafkaError, TopicPartition

from tests.simulation.kafka.consumer_stage import TOPIC, ConsumerStage, Member
from tests.simulation.kafka.groups import Commit
from tests.simulation.kafka.network import Fate


class _Committing(Member):
    """A member that keeps the outcomes of its commits, with their times."""

    def __init__(self, stage: ConsumerStage) -> None:
        self.outcomes: list[tuple[float, int | None, int]] = []
        """Time, error and offset of each."""
        super().__init__(stage, stage.consumer(on_commit=self._note))

    def _note(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        code = None if error is None else error.code()
        self.outcomes += [(self.stage.scheduler.now, code, place.offset) for place in places]

    def begin(self, *offsets: int) -> None:
        """Commit without waiting."""
        for offset in offsets:
            self.consumer.commit(offsets=[TopicPartition(TOPIC, 0, offset)], asynchronous=True)


def _stage(**properties: Any) -> ConsumerStage:
    return ConsumerStage(1, **{"group.protocol": "classic", **properties})


def test_a_commit_is_made_for_the_member_of_its_time() -> None:
    """The group is empty when the repeats come. It would take a commit of a client that is no member."""
    stage = _stage(**{"socket.timeout.ms": 15_000})

    def work() -> None:
        member = _Committing(stage)
        member.subscribe()
        member.poll(5)
        stage.fates["OffsetCommit"] = [Fate(is_answer_lost=True)]
        member.begin(5, 7)
        stage.fates["Heartbeat"] = [Fate(error=KafkaError.ILLEGAL_GENERATION)]
        stage.fates["JoinGroup"] = [Fate(is_request_lost=True)] * 3
        member.poll(16)
        assert member.told == [("assign", [0]), ("lost", [0])]
        unknown = KafkaError.UNKNOWN_MEMBER_ID
        assert [outcome[1:] for outcome in member.outcomes] == [(unknown, 5), (unknown, 7)]
        assert stage.commits == {0: Commit(5)}
        member.consumer.close()

    stage.run(work)


def test_commits_behind_one_without_an_answer_are_repeated_in_their_order() -> None:
    stage = _stage(**{"socket.timeout.ms": 2_000})

    def work() -> None:
        member = _Committing(stage)
        member.subscribe()
        member.poll(5)
        stage.fates["OffsetCommit"] = [Fate(is_request_lost=True)]
        begun_at = stage.scheduler.now
        member.begin(5, 7, 9)
        member.poll(4)
        assert [outcome[1:] for outcome in member.outcomes] == [(None, 5), (None, 7), (None, 9)]
        assert all(at - begun_at < 3 for at, _, _ in member.outcomes), "they share one time-out"
        member.consumer.close()

    stage.run(work)
    assert stage.commits == {0: Commit(9)}


def test_each_commit_waits_for_the_coordinator_a_session_of_its_own() -> None:
    stage = _stage()

    def work() -> None:
        member = _Committing(stage)
        member.subscribe()
        member.poll(5)
        stage.coordinators.of("g").trouble = KafkaError.COORDINATOR_NOT_AVAILABLE
        member.poll(3)
        begun_at = stage.scheduler.now
        member.begin(5)
        member.poll(4)
        member.begin(7)
        member.poll(12)
        waits = [(round(at - begun_at), code, offset) for at, code, offset in member.outcomes]
        assert waits == [(10, KafkaError._WAIT_COORD, 5), (14, KafkaError._WAIT_COORD, 7)]
        member.consumer.close()

    stage.run(work)
