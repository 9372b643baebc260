"""A cluster that is settling is asked again, one that refuses is not; and offsets are looked up by time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pushrail_stream.kafka import admin


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "_PAUSE_SECS", 0.0)


def answers(*codes: int) -> tuple[list[int], object]:
    left = list(codes)

    def ask() -> str:
        if left:
            raise KafkaException(KafkaError(left.pop(0)))
        return "answer"

    return left, ask


def test_a_settling_cluster_is_asked_again() -> None:
    left, ask = answers(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
    assert admin.retry_while_settling(ask) == "answer"  # type: ignore[arg-type]
    assert left == []


def test_other_errors_are_raised_at_once() -> None:
    left, ask = answers(KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException):
        admin.retry_while_settling(ask)  # type: ignore[arg-type]
    assert len(left) == 1


def test_an_unsettled_cluster_is_an_error() -> None:
    left, ask = answers(*[KafkaError.LEADER_NOT_AVAILABLE] * 25)
    with pytest.raises(KafkaException):
        admin.retry_while_settling(ask)  # type: ignore[arg-type]
    assert len(left) == 5


class DatedTopic:
    """A consumer of a topic whose records have these times, by partition."""

    def __init__(self, times: Mapping[int, Sequence[int]], *, knows_times: bool = True) -> None:
        self.times, self.knows_times, self.questions = times, knows_times, 0

    def offsets_for_times(self, wanted: list[TopicPartition], **_: float) -> list[TopicPartition]:
        self.questions += 1
        return [TopicPartition(p.topic, p.partition, self._first(p.partition, p.offset)) for p in wanted]

    def _first(self, partition: int, time: int) -> int:
        later = [number for number, at in enumerate(self.times[partition]) if at >= time]
        return later[0] if later and self.knows_times else -1

    def look_up(self, time: int) -> dict[int, int] | None:
        bounds = {partition: (0, len(times)) for partition, times in self.times.items()}
        return admin.offsets_for_time(cast("Consumer", self), "topic", time, bounds)


@pytest.mark.parametrize(
    ("time", "offsets", "questions"),
    [(15, {0: 1, 1: 2, 2: 0}, 1), (35, {0: 3, 1: 2, 2: 0}, 2), (-1, {0: 0, 1: 0, 2: 0}, 1)],
    ids=["found in one partition", "later than all records", "before all records"],
)
def test_offsets_are_looked_up_by_time(time: int, offsets: dict[int, int], questions: int) -> None:
    topic = DatedTopic({0: [10, 20, 30], 1: [5, 7], 2: []})
    assert topic.look_up(time) == offsets
    assert topic.questions == questions, "only an answer that nothing is so late needs a proof"


def test_an_empty_topic_needs_no_proof() -> None:
    topic = DatedTopic({0: [], 1: []}, knows_times=False)
    assert topic.look_up(5) == {0: 0, 1: 0}
    assert topic.questions == 1


def test_a_broker_that_finds_no_record_by_time_is_told() -> None:
    assert DatedTopic({0: [10, 20, 30], 1: []}, knows_times=False).look_up(15) is None
