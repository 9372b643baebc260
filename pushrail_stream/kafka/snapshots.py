"""Snapshots of cursors, on a topic of their own, for commits whose metadata has no room for the cursors.

A snapshot is written first. The commit that names its place is made once Kafka has acknowledged it, so a snapshot that
no commit names does not exist. Only the thread that owns the consumer may use this. It never waits, except at the
beginning and at the end of an assignment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from contextlib import suppress
from typing import Final, NamedTuple, final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pushrail_stream.core.commit import Committable, epoch_of, topic_of
from pushrail_stream.core.cursor_state import CursorError
from pushrail_stream.core.record import Partition
from pushrail_stream.core.snapshot import (
    SnapshotPlace,
    snapshot_key,
    snapshot_of,
    snapshot_value,
    with_place,
    with_snapshot,
)
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.errors import END_OF_PARTITION, as_operator_error
from pushrail_stream.kafka.producer import KafkaPublisher
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.settings.model import KafkaSettings

_EVERY_SECS: Final = 5.0
"""Seconds between two snapshots of a partition. One may have a megabyte when thousands of destinations are behind.
Events delivered since the last one are delivered again after a crash, and with more than 256 cursors also those of the
8 s before, because cursors take turns (`core.cursor_texts`)."""
LAST_SECS: Final = 5.0
"""Longest wait for the snapshots of last commits, at the end of an assignment, in seconds."""
_READ_SECS: Final = 10.0
"""Longest wait for one snapshot that is read, in seconds. Its partition then asks again."""
_SEARCH_SECS: Final = 60.0
"""Longest search for one snapshot that is not at its place, in seconds. Partitions assigned at the same time wait."""
_POLL_SECS: Final = 0.1
"""Longest wait of one poll, in seconds, between two looks at the time."""


class _Written(NamedTuple):
    commit: Committable
    place: Future[SnapshotPlace]
    at: float


@final
class Snapshots:
    """The snapshots of one consumer's partitions."""

    def __init__(self, kafka: KafkaSettings, topic: str, publisher: KafkaPublisher) -> None:
        """Make it on the event loop of the publisher."""
        self._kafka = kafka
        self._topic = topic
        self._publisher = publisher
        self._loop = asyncio.get_running_loop()
        self._written: dict[Partition, _Written] = {}

    def ready(
        self, commits: Mapping[Partition, Committable], failed: Callable[[str], object]
    ) -> dict[Partition, Committable]:
        """The commits that may be made now. Snapshots of the others begin; ``failed`` learns why one was not written.

        Instead of the given commit, an earlier one may come, whose snapshot Kafka has. It never comes after a later
        commit, or once the log has changed below it.
        """
        made = {}
        for partition, commit in commits.items():
            if not commit.needs_snapshot:
                self._written.pop(partition, None)
                made[partition] = commit
                continue
            written = self._written.get(partition)
            if written is None or not _goes_on(written.commit, commit):
                self._begin(partition, commit)
            elif written.place.done():
                if (error := written.place.exception()) is None:
                    made[partition] = with_place(written.commit, written.place.result())
                else:
                    failed(f"the snapshot of the cursors of {partition} could not be written: {error}")
                self._renew(partition, commit, written, has_failed=error is not None)
        return made

    def last(
        self, commits: Mapping[Partition, Committable], failed: Callable[[str], object], until: float
    ) -> dict[Partition, Committable]:
        """The last commits that may be made. Waits for their snapshots until this time (monotonic seconds)."""
        for partition, commit in commits.items():
            written = self._written.get(partition)
            if commit.needs_snapshot and not (written and written.commit.says_as(commit)):
                self._begin(partition, commit)
        made = {}
        for partition, commit in commits.items():
            if not commit.needs_snapshot:
                made[partition] = commit
                continue
            try:
                place = self._written[partition].place.result(max(0.0, until - time.monotonic()))
            except (OperatorError, TooLate) as error:
                del self._written[partition]
                why = "it took too long" if isinstance(error, TooLate) else error
                failed(f"the snapshot of the cursors of {partition} could not be written: {why}")
            else:
                made[partition] = with_place(commit, place)
        return made

    def forget(self, partition: Partition) -> None:
        """Forget what was written for this partition: its offsets mean other records now."""
        self._written.pop(partition, None)

    def restore(self, partition: Partition, commit: Committable) -> Committable:
        """As `restored`."""
        return restored(self._kafka, self._topic, partition, commit)

    def _renew(self, partition: Partition, commit: Committable, written: _Written, *, has_failed: bool) -> None:
        is_due = time.monotonic() >= written.at + _EVERY_SECS
        if has_failed or (is_due and not written.commit.says_as(commit)):
            self._begin(partition, commit)

    def _begin(self, partition: Partition, commit: Committable) -> None:
        write = self._write(snapshot_key(partition), snapshot_value(partition, commit))
        place = asyncio.run_coroutine_threadsafe(write, self._loop)
        self._written[partition] = _Written(commit, place, time.monotonic())

    async def _write(self, key: bytes, value: bytes) -> SnapshotPlace:
        return SnapshotPlace(*await self._publisher.place(self._topic, key, value))


def restored(kafka: KafkaSettings, topic: str, partition: Partition, commit: Committable) -> Committable:
    """The partition's commit with the cursors of the snapshot that it names, if it names one; ``topic``: of snapshots.

    A tool may have copied commit and snapshot to another cluster, where the snapshot has another place: it is searched
    for. Raises `CursorError` when it is not there any more or is of another commit, and KafkaException when Kafka does
    not answer.
    """
    place = snapshot_of(commit)
    if place is None:
        return commit
    try:
        return with_snapshot(commit, partition, _read(kafka, topic, place))
    except CursorError:
        found = _search(kafka, topic, partition, commit)
        if found is None:
            raise
        return found


def _search(kafka: KafkaSettings, topic: str, partition: Partition, commit: Committable) -> Committable | None:
    """The commit with the cursors of its snapshot, wherever that is on the topic; None if it is not found in time."""
    key, until = snapshot_key(partition), time.monotonic() + _SEARCH_SECS
    with suppress(OperatorError), Scan(kafka, topic) as scan:
        for batch in scan:
            for record in batch:
                with suppress(CursorError):
                    if record.key == key:
                        return with_snapshot(commit, partition, record.value)
            if time.monotonic() >= until:
                break
    return None


def _read(kafka: KafkaSettings, topic: str, place: SnapshotPlace) -> bytes | None:
    """The value of the record at this place. Raises `CursorError` when there is none."""
    quick = {"fetch.wait.max.ms": 10, "enable.partition.eof": True}
    is_at_end, until = False, time.monotonic() + _READ_SECS
    with as_operator_error("kafka.client"):
        consumer = Consumer(client_properties.reader(kafka, f"{kafka.group_id}.cursors", quick))
    with consumer:
        consumer.assign([TopicPartition(topic, *place)])
        while time.monotonic() < until:
            message = consumer.poll(_POLL_SECS)
            if message is None:
                continue
            if (error := message.error()) is None:
                if message.offset() == place.offset:
                    return message.value()
                raise CursorError(f"{topic}/{place.partition} has no record {place.offset} any more")
            is_at_end = is_at_end or error.code() == END_OF_PARTITION  # a new leader may tell it too early
            if error.code() != END_OF_PARTITION and not error.retriable():
                raise KafkaException(error)
    if is_at_end:
        raise CursorError(f"{topic}/{place.partition} has no record {place.offset} any more")
    raise KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT))


def _goes_on(earlier: Committable, later: Committable) -> bool:
    """Whether nothing has happened to the log between the two commits."""
    same = topic_of(earlier) == topic_of(later) and epoch_of(earlier) == epoch_of(later)
    return same and earlier.offset <= later.offset
