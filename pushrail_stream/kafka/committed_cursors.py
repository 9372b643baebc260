"""The cursors that a new owner of partitions finds in the group's commits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from confluent_kafka import Consumer

from pushrail_stream.core.commit import Committable, has_cursors, resumed_cursors, topic_of, was_recreated
from pushrail_stream.core.cursor_state import CursorError, CursorState
from pushrail_stream.core.record import NO_TOPIC_ID, Partition, TopicIdentity
from pushrail_stream.kafka.admin import bounds_of, offsets_for_time

_CLUSTER_SECS: Final = 10.0
"""Longest wait for the cluster's id."""
_SLACK_MS: Final = 60_000
"""Kafka's timestamps come from the producers: an event may be stamped this much earlier than the ones before it."""

Restore = Callable[[Partition, Committable], Committable]
"""Gives a commit the cursors of its snapshot. Raises `CursorError` when there is no such snapshot."""


class Resumed(NamedTuple):
    """The commits to resume from."""

    commits: Mapping[Partition, Committable | None]
    cursors: Mapping[Partition, Sequence[CursorState]]
    unreadable: Mapping[Partition, str]
    """Partitions that cannot be resumed, and why. They are in neither of the others."""


def resume(
    consumer: Consumer,
    committed: Mapping[Partition, Committable | None],
    topics: Mapping[str, TopicIdentity],
    restore: Restore,
) -> Resumed:
    """Find the cursors of each commit. Raises KafkaException when Kafka does not answer."""
    commits, cursors, unreadable = dict(committed), {}, {}
    for partition, commit in committed.items():
        if commit is None or not has_cursors(commit):
            continue
        topic = topics.get(partition.topic) or _other_cluster(consumer, partition, commit)
        try:
            commits[partition] = restored = restore(partition, commit)
            cursors[partition] = resumed_cursors(
                restored,
                topic,
                lambda at_ms, p=partition: _offset_at(consumer, p, at_ms),  # type: ignore[misc]
            )
        except CursorError as error:
            if was_recreated(topic_of(commit), topic):  # they are of no use, and only reported
                continue
            del commits[partition]
            unreadable[partition] = _say(partition, error)
    return Resumed(commits, cursors, unreadable)


def _other_cluster(consumer: Consumer, partition: Partition, commit: Committable) -> TopicIdentity | None:
    """The partition's topic, whose id is unknown, if the commit names one of another cluster; else None.

    A tool may mirror a commit without a change of its offset. Only the cluster then tells that its cursors have moved.
    """
    named = topic_of(commit)
    if named is None:
        return None
    cluster_id = consumer.list_topics(partition.topic, timeout=_CLUSTER_SECS).cluster_id
    return TopicIdentity(cluster_id, NO_TOPIC_ID) if cluster_id and cluster_id != named.cluster_id else None


def _say(partition: Partition, why: CursorError) -> str:
    return (
        f"{partition} stands still: the group's commit names events that are still to be delivered, and they cannot be "
        f"read: {why}. To deliver from the commit on, and lose them, stop the workers, reset the group's offset there "
        "(`replay offsets --partition`), and start them again"
    )


def _offset_at(consumer: Consumer, partition: Partition, at_ms: int) -> int:
    """The first offset of this record time; the first one of all from a broker that cannot look up by time."""
    bounds = {partition.number: bounds_of(consumer, partition.topic, partition.number)}
    found = offsets_for_time(consumer, partition.topic, at_ms - _SLACK_MS, bounds)
    return bounds[partition.number][0] if found is None else found[partition.number]
