"""Consumer groups seen from outside: their members, their commits, and how to move these."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Final, NamedTuple

from confluent_kafka import Consumer, ConsumerGroupState, ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, ConsumerGroupDescription

from pushrail_stream.core.commit import Committable, topic_of, was_recreated
from pushrail_stream.core.cursor_state import CursorState
from pushrail_stream.core.record import Partition, TopicIdentity
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.admin import offsets_for_time, partitions_of, retry_while_settling, settled_bounds_of
from pushrail_stream.kafka.committed_cursors import resume
from pushrail_stream.kafka.errors import as_operator_error
from pushrail_stream.kafka.snapshots import restored
from pushrail_stream.kafka.topic_ids import TopicIdentities
from pushrail_stream.settings.model import KafkaSettings, TopicsSettings

_TIMEOUT_SECS: Final = 15.0
_INACTIVE: Final = frozenset({ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD})

Target = int | str
"""An offset, epoch milliseconds as ``time:<ms>``, ``earliest`` or ``latest``."""


class Shift(NamedTuple):
    """A group's present and planned offset in a partition."""

    partition: int
    old: int | None
    """None if nothing has been committed."""
    new: int
    first: int
    end: int

    @property
    def again(self) -> int:
        """Records that will be read again; negative: records that will be skipped.

        Where nothing has been committed, or what Kafka has deleted since, workers would begin at the first record.
        """
        return max(self.old or 0, self.first) - self.new


def _asking(kafka: KafkaSettings) -> AbstractContextManager[None]:
    return as_operator_error(f"Kafka refuses, or cannot be reached at {kafka.bootstrap_servers}")


def committed_by(kafka: KafkaSettings, group_id: str, topic: str) -> dict[int, Committable]:
    """A group's commits by partition, with offset 0 where it has none. Raises `OperatorError`.

    Commits for an earlier topic of that name do not count, and neither does metadata of another topic. A commit above
    the end of its log does not count either: the log has lost its end, and new records take the offsets.
    """
    with _asking(kafka), Consumer(client_properties.reader(kafka, group_id, {})) as consumer:
        wanted = [TopicPartition(topic, n) for n in partitions_of(consumer, topic)]
        found = retry_while_settling(lambda: consumer.committed(wanted, timeout=_TIMEOUT_SECS))
        ends = {p.partition: settled_bounds_of(consumer, topic, p.partition)[1] for p in found if p.offset > 0}
    now = TopicIdentities(kafka).ask([topic]).get(topic)
    commits = {p.partition: Committable(max(p.offset, 0), p.metadata or "") for p in found}
    return {
        number: Committable(0, "") if commit.offset > ends.get(number, 0) else _meaning(commit, now)
        for number, commit in commits.items()
    }


class OpenCursors(NamedTuple):
    """The cursors of a group in one partition: the destinations that are behind there."""

    states: Sequence[CursorState]
    end: int
    """The partition's end."""


class UnreadableCursorsError(OperatorError):
    """Cursors of a group cannot be read. Their partitions stand still until they can, or until the group is moved."""

    def __init__(self, unreadable: Mapping[Partition, str], readable: Mapping[int, OpenCursors]) -> None:
        """``readable``: the cursors of the other partitions."""
        super().__init__(*unreadable.values())
        self.readable = readable
        self.partitions = frozenset(partition.number for partition in unreadable)


def open_cursors(kafka: KafkaSettings, group_id: str, topics: TopicsSettings) -> dict[int, OpenCursors]:
    """The cursors in a group's commits of events, by partition that has some.

    They are those with which the next owners would continue. Raises `OperatorError`, and `UnreadableCursorsError` when
    some cannot be read.
    """
    topic = topics.events
    with _asking(kafka), Consumer(client_properties.reader(kafka, group_id, {})) as consumer:
        wanted = [TopicPartition(topic, n) for n in partitions_of(consumer, topic)]
        found = retry_while_settling(lambda: consumer.committed(wanted, timeout=_TIMEOUT_SECS))
        commits = {
            Partition(topic, p.partition): Committable(p.offset, p.metadata or "") for p in found if p.offset >= 0
        }
        identities = TopicIdentities(kafka).ask([topic])
        _, cursors, unreadable = resume(consumer, commits, identities, partial(restored, kafka, topics.cursors))
        ends = {p: settled_bounds_of(consumer, topic, p.number)[1] for p in cursors}
        readable = {partition.number: OpenCursors(states, ends[partition]) for partition, states in cursors.items()}
        if unreadable:
            raise UnreadableCursorsError(unreadable, readable)
        return readable


def _meaning(committed: Committable, topic: TopicIdentity | None) -> Committable:
    then = topic_of(committed)
    if was_recreated(then, topic):
        return Committable(0, "")
    return committed if then == topic else Committable(committed.offset, "")


def members_of(kafka: KafkaSettings, group_id: str) -> list[str]:
    """The clients in the group; empty if it is inactive or unknown. Raises `OperatorError`."""
    admin = AdminClient(client_properties.admin(kafka))

    def ask() -> ConsumerGroupDescription:
        [described] = admin.describe_consumer_groups([group_id], request_timeout=_TIMEOUT_SECS).values()
        group: ConsumerGroupDescription = described.result()
        return group

    with as_operator_error(f"Kafka at {kafka.bootstrap_servers} does not describe group {group_id}"):
        group = retry_while_settling(ask)
    if group.state in _INACTIVE:
        return []
    return [f"{member.client_id} at {member.host}" for member in group.members] or [str(group.state)]


def plan_shift(
    kafka: KafkaSettings, group_id: str, topic: str, target: Target, partition: int | None = None
) -> list[Shift]:
    """The shifts that would move the group to ``target``, in all partitions or in one. Raises `OperatorError`."""
    with _asking(kafka), Consumer(client_properties.reader(kafka, group_id, {})) as consumer:
        numbers = [n for n in partitions_of(consumer, topic) if partition in {None, n}]
        bounds = {n: settled_bounds_of(consumer, topic, n) for n in numbers}
        wanted = [TopicPartition(topic, n) for n in numbers]
        found = retry_while_settling(lambda: consumer.committed(wanted, timeout=_TIMEOUT_SECS))
        old = {p.partition: p.offset if p.offset >= 0 else None for p in found}
        new = _resolve(consumer, topic, target, bounds)
    return [Shift(n, old[n], min(max(new[n], low), high), low, high) for n, (low, high) in sorted(bounds.items())]


def plan_first_start(kafka: KafkaSettings, group_id: str, topics: Collection[str]) -> dict[str, list[Shift]]:
    """By topic the shifts to the end of a group that has never committed; none if it has, or if a topic is missing.

    Raises `OperatorError`.
    """
    with _asking(kafka), Consumer(client_properties.reader(kafka, group_id, {})) as consumer:
        found = consumer.list_topics(timeout=_TIMEOUT_SECS).topics  # a question about one topic may create it
        if not all(topic in found for topic in topics):
            return {}
        wanted = [TopicPartition(topic, number) for topic in topics for number in found[topic].partitions]
        known = retry_while_settling(lambda: consumer.committed(wanted, timeout=_TIMEOUT_SECS))
        if any(place.offset >= 0 for place in known):
            return {}
        shifts: dict[str, list[Shift]] = {topic: [] for topic in topics}
        for place in wanted:
            low, high = settled_bounds_of(consumer, place.topic, place.partition)
            shifts[place.topic].append(Shift(place.partition, None, high, low, high))
        return shifts


def move_group(kafka: KafkaSettings, group_id: str, topic: str, shifts: list[Shift]) -> None:
    """Commit the new offsets. Raises `OperatorError`, also when a member has joined meanwhile.

    A partition that would not move is left alone: a commit would lose the map of what is settled above it.
    """
    wanted = [TopicPartition(topic, shift.partition, shift.new) for shift in shifts if shift.new != shift.old]
    if not wanted:
        return
    admin = AdminClient(client_properties.admin(kafka))
    request = ConsumerGroupTopicPartitions(group_id, wanted)

    def ask() -> list[TopicPartition]:
        [altered] = admin.alter_consumer_group_offsets([request], request_timeout=_TIMEOUT_SECS).values()
        return list(altered.result().topic_partitions)

    with _asking(kafka):
        refused = [p.error for p in retry_while_settling(ask) if p.error is not None]
    if refused:
        raise OperatorError(f"group {group_id} could not be moved: {refused[0].str()}")


def _resolve(consumer: Consumer, topic: str, target: Target, bounds: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    if isinstance(target, int):
        return dict.fromkeys(bounds, target)
    if target.startswith("time:"):
        at = int(target.removeprefix("time:"))
        found = retry_while_settling(lambda: offsets_for_time(consumer, topic, at, bounds))
        if found is None:
            raise OperatorError(f"this Kafka finds no record of {topic} by its time: name an offset")
        return found
    return {n: low if target == "earliest" else high for n, (low, high) in bounds.items()}
