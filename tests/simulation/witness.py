"""The witness: it sees every record, commit and call of a story, and writes them down as evidence for the oracle.

It stands between the network and the brokers, and changes nothing.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, final
from unittest.mock import patch

from pushrail_stream.core.commit import Committable
from pushrail_stream.core.record import NOT_UTF8, Partition, Record
from tests.simulation.kafka.broker import Produced, Topic
from tests.simulation.kafka.cluster import Cluster
from tests.simulation.kafka.partition_log import LogRecord, PartitionLog
from tests.simulation.oracle.calls import calls_of
from tests.simulation.oracle.cloud_events import CloudEvents
from tests.simulation.oracle.commit_cursors import find_snapshot, read_snapshot, snapshot_place
from tests.simulation.oracle.evidence import Commit, Evidence, Text, Written

if TYPE_CHECKING:
    from tests.simulation.world import World

_PRODUCERS: Final = "producer"
"""The beginning of the names of hosts that the world itself uses to write."""


@final
class Witness:
    """Fills the evidence of one story while it is played."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._evidence: Evidence = world.evidence
        self._host = ""
        """The host whose request a broker handles now; empty when the world itself acts."""
        self._of_log: dict[PartitionLog, dict[int, Written]] = {}
        """By log and offset."""
        self._in_log: list[tuple[LogRecord, Written]] = []
        self._hidden: dict[PartitionLog, deque[Written]] = {}
        """By log the records that an open transaction hides from consumers."""
        self._appended: list[Written] = []
        """The records that the present request has written, or had written before."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while the block lasts."""
        cluster = self._world.cluster
        cluster.coordinators.note = self._note_group
        with (
            patch.object(cluster.network, "request", self._watched_requests(cluster)),
            patch.object(cluster, "delete_topic", self._watched_deletion(cluster)),
            patch.object(cluster, "create_topic", self._watched_creation(cluster)),
            patch.object(PartitionLog, "append", self._watched_append()),
            patch.object(PartitionLog, "end_transaction", self._watched_end()),
            patch.object(PartitionLog, "append_unreadable", self._watched_unreadable()),
            patch.object(PartitionLog, "elect", self._watched_loss(PartitionLog.elect)),
            patch.object(PartitionLog, "remove_before", self._watched_loss(PartitionLog.remove_before)),
            patch.object(PartitionLog, "compact", self._watched_loss(PartitionLog.compact)),
        ):
            yield

    def finish(self) -> None:
        """Add what is known for certain only when the story has ended: aborted records, calls and log lines."""
        for record, written in self._in_log:
            written.is_readable &= not record.is_aborted
        for name, topic in self._world.cluster.topics.items():
            for log in topic.partitions:
                self._evidence.log_ends[Partition(name, log.number), topic.id] = log.last_stable
        cloud = self._world.cloud
        events = self._evidence.on(self._evidence.settings.topics.events)
        self._evidence.calls += calls_of(cloud.calls, CloudEvents(one.record for one in events))
        self._evidence.secrets |= cloud.accounts.secrets
        for at, kind, facts in self._world.history.happenings:
            if kind == "log":
                self._evidence.texts.append(Text(at, facts["host"], "log", json.dumps(facts["line"])))

    # Requests

    def _watched_requests(self, cluster: Cluster) -> Callable[..., None]:
        request = cluster.network.request

        def watched(host: Any, broker: Any, api: str, handle: Callable[[], Any], done: Any, timeout: float) -> None:
            written: list[Written] = []

            def handle_for_host() -> Any:
                self._host, self._appended = host.name, written
                try:
                    return handle()
                finally:
                    self._host, self._appended = "", []

            def done_at_host(answer: Any) -> None:
                if api == "OffsetCommit" and _is_refused(answer):
                    self._world.disturb("commit", host=host.name)
                is_heard = done(answer) is not False
                if is_heard and isinstance(answer, Produced) and answer.error is None:
                    for one in written:
                        one.acknowledged_at = one.acknowledged_at or self._world.scheduler.now

            request(host, broker, api, handle_for_host, done_at_host, timeout)

        return watched

    # Logs

    def _watched_append(self) -> Callable[..., int]:
        append = PartitionLog.append

        def watched(log: PartitionLog, records: Sequence[Any], **options: Any) -> int:
            before = log.end
            base = append(log, records, **options)
            if log.end > before:
                self._note_records(log, log.records[-len(records) :])
                self._uncover(log)
            known = self._of_log.get(log, {})
            self._appended += [known[offset] for offset in range(base, base + len(records)) if offset in known]
            return base

        return watched

    def _watched_end(self) -> Callable[..., None]:
        end_transaction = PartitionLog.end_transaction

        def watched(log: PartitionLog, *args: Any, **options: Any) -> None:
            end_transaction(log, *args, **options)
            self._uncover(log)

        return watched

    def _uncover(self, log: PartitionLog) -> None:
        """Note the records that consumers can read from now on."""
        hidden, now = self._hidden.setdefault(log, deque()), self._world.scheduler.now
        while hidden and hidden[0].record.offset < log.last_stable:
            written = hidden.popleft()
            written.readable_at = now if written.at < now else None

    def _watched_unreadable(self) -> Callable[..., int]:
        append_unreadable = PartitionLog.append_unreadable

        def watched(log: PartitionLog, *args: Any, **options: Any) -> int:
            first = append_unreadable(log, *args, **options)
            self._note_records(log, log.records[-1:])
            return first

        return watched

    def _note_records(self, log: PartitionLog, records: Sequence[LogRecord]) -> None:
        topic_id, now = self._topic_id(log), self._world.scheduler.now
        host = "" if self._host.startswith(_PRODUCERS) else self._host
        current = self._world.cluster.topic(log.topic)
        # Brokers that lag behind write to a deleted topic for a moment: nothing will read that.
        gone_at = None if current is not None and log in current.partitions else now
        known = self._of_log.setdefault(log, {})
        for record in records:
            headers = tuple((name if isinstance(name, str) else NOT_UTF8, value) for name, value in record.headers)
            for offset in range(record.offset, record.last + 1):
                seen = Record(
                    log.topic, log.number, offset, record.key, record.value, headers, record.timestamp_ms, topic_id
                )
                written = Written(
                    now, seen, host, is_readable=record.unreadable is None, gone_at=gone_at, epoch=record.epoch
                )
                known[offset] = written
                self._hidden.setdefault(log, deque()).append(written)
                self._evidence.written.append(written)
                self._in_log.append((record, written))
            if log.topic == self._world.settings.topics.destinations and self._world.settings.registry.topic:
                self._world.edited((record.key or b"").decode(), record.value)
            self._world.history.note("record", topic=log.topic, partition=log.number, offset=record.offset, host=host)

    def _topic_id(self, log: PartitionLog) -> str | None:
        cluster = self._world.cluster
        views = (broker.view.get(log.topic) for broker in cluster.brokers.values())
        topics = [cluster.topic(log.topic), *(view.topic for view in views if view is not None)]
        return next((topic.id for topic in topics if topic is not None and log in topic.partitions), None)

    def _watched_loss(self, change: Callable[..., None]) -> Callable[..., None]:
        def watched(log: PartitionLog, *args: Any, **options: Any) -> None:
            change(log, *args, **options)
            left = {offset for record in log.records for offset in range(record.offset, record.last + 1)}
            self._lose(one for offset, one in self._of_log.get(log, {}).items() if offset not in left)

        return watched

    def _watched_deletion(self, cluster: Cluster) -> Callable[[str], None]:
        delete_topic = cluster.delete_topic

        def watched(name: str) -> None:
            for log in cluster.topics[name].partitions:
                self._lose(self._of_log.get(log, {}).values())
            delete_topic(name)

        return watched

    def _watched_creation(self, cluster: Cluster) -> Callable[..., Topic]:
        create_topic = cluster.create_topic

        def watched(name: str, *args: Any, **options: Any) -> Topic:
            topic = create_topic(name, *args, **options)
            self._evidence.created[topic.id] = self._world.scheduler.now
            self._evidence.heard_of[topic.id] = cluster.heard_at
            return topic

        return watched

    def _lose(self, gone: Any) -> None:
        for one in gone:
            one.gone_at = one.gone_at or self._world.scheduler.now

    # Groups

    def _note_group(self, kind: str, **facts: Any) -> None:
        world = self._world
        world.history.note(kind, **facts)
        if kind != "commit":
            return
        topic = world.cluster.topic(facts["topic"])
        host = self._host if self._host.startswith("worker") else ""
        self._evidence.commits.append(
            Commit(
                world.scheduler.now,
                facts["group"],
                Partition(facts["topic"], facts["partition"]),
                None if topic is None else topic.id,
                self._committable(facts, is_ours=bool(host)),
                host,
                facts["epoch"],
            )
        )

    def _committable(self, facts: Mapping[str, Any], *, is_ours: bool) -> Committable:
        """The commit, with the cursors of its snapshot: a worker names its place, and a tool may have copied it."""
        partition, commit = (
            Partition(facts["topic"], facts["partition"]),
            Committable(facts["offset"], facts["metadata"]),
        )
        place, topic = snapshot_place(commit), self._world.cluster.topic(self._world.settings.topics.cursors)
        if place is None or topic is None:
            return commit
        number, offset = place
        records = topic.partitions[number].records
        found = next((read_snapshot(commit, partition, one.value) for one in records if one.offset == offset), "")
        if not found and not is_ours:
            found = find_snapshot(commit, partition, (one.value for one in reversed(records)))
        return commit._replace(cursors=found)


def _is_refused(answer: Any) -> bool:
    """Whether a commit was refused, or its answer never came."""
    return isinstance(answer, int) or (isinstance(answer, Mapping) and any(answer.values()))
