"""Drained: by the committed offsets of both consumer groups every produced event is settled, and no cursor is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pushrail_stream.core.commit import Committable, cursors_of
from pushrail_stream.core.cursor_state import CursorState
from tests.chaos.world import GROUP, PARTITIONS, RETRY_GROUP, TIERS, TOPICS

_ANSWER_SECS: Final = 10.0
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]


class Lag(NamedTuple):
    """The progress of a group in one partition."""

    topic: str
    partition: int
    committed: int
    end: int
    cursors: tuple[CursorState, ...] = ()
    """The cursors that the commit names."""

    @property
    def is_over(self) -> bool:
        """Whether everything is settled."""
        return self.committed == self.end and not self.cursors

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}: committed {self.committed} of {self.end} {self.cursors or ''}".rstrip()


class Drain:
    """Asks Kafka for committed offsets and ends."""

    def __init__(self, bootstrap: str, groups: dict[str, Consumer]) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._groups = groups

    @classmethod
    @contextmanager
    def open(cls, bootstrap: str) -> Iterator[Drain]:
        """Ready to ask. The consumers never join their groups."""
        groups = {
            group: Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0})
            for group in (GROUP, RETRY_GROUP)
        }
        try:
            yield cls(bootstrap, groups)
        finally:
            for consumer in groups.values():
                consumer.close()

    def lags(self) -> list[Lag] | None:
        """Every partition that is not committed to its end; None when Kafka does not answer.

        The topics stand in the order in which deliveries travel, and each topic's commits are read before its end. A
        committed record has left its copies further down before, so an empty answer means that no delivery is on its
        way.
        """
        try:
            return [
                lag
                for topic, group in ((TOPICS["events"], GROUP), *((tier, RETRY_GROUP) for tier in TIERS))
                for lag in self._topic(topic, group)
                if not lag.is_over
            ]
        except KafkaException:
            return None

    def _topic(self, topic: str, group: str) -> list[Lag]:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        committed = self._groups[group].committed(partitions, timeout=_ANSWER_SECS)
        for known in committed:
            if known.error is not None:
                raise KafkaException(known.error)
        answers = self._admin.list_offsets(
            {TopicPartition(topic, number): _LATEST for number in range(PARTITIONS)},
            request_timeout=_ANSWER_SECS,
        )
        ends = {partition.partition: answer.result().offset for partition, answer in answers.items()}
        # Nothing committed yet is a negative number.
        return [
            Lag(
                topic,
                p.partition,
                max(p.offset, 0),
                ends[p.partition],
                tuple(cursors_of(Committable(p.offset, p.metadata or ""))),
            )
            for p in committed
        ]
