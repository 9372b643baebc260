"""The consumer: one thread that owns it, polls, hands batches to the event loop and commits released offsets.

The client passes every call of a Consumer through one unfair lock, so a second thread would starve (measured: it waited
6 s). The thread asks the loop and does what it answers. Nothing calls into the thread, and the only thing shared with
it is the wish to stop. While the thread waits for an answer the partitions cannot move: a rebalance waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar, final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from pushrail_stream.core.commit import Committable
from pushrail_stream.core.record import Partition, Record, TopicIdentity
from pushrail_stream.core.signals import CommitFailed, KafkaTrouble, Membership, Signal
from pushrail_stream.kafka.client_properties import ConsumerProfile
from pushrail_stream.kafka.commits import (
    Commits,
    commits_of,
    committable_of,
    committed_offsets,
    is_too_large,
    partition_of,
    read_positions_of,
)
from pushrail_stream.kafka.committed_cursors import Resumed, resume
from pushrail_stream.kafka.errors import END_OF_PARTITION, as_operator_error, is_hopeless, refused_for_good
from pushrail_stream.kafka.loop_thread import LoopThread
from pushrail_stream.kafka.met_topics import MetTopics
from pushrail_stream.kafka.records import records_of, take_messages
from pushrail_stream.kafka.snapshots import Snapshots
from pushrail_stream.kafka.statistics import StatisticsKeeper
from pushrail_stream.kafka.topic_ids import TopicIdentities
from pushrail_stream.pipeline.assignment import Assignment, FlowControl, ReadingPlace
from pushrail_stream.ports.kafka import ClientStatistics
from pushrail_stream.ports.pipeline import Observer

_POLL_SECS: Final = 0.1
_BATCH_BYTES: Final = 4 * 2**20
"""Bytes handed over at once: about four of the largest entries. The count ends a batch of small events earlier."""
_HOLD_SECS: Final = 0.02
"""Time between two questions whether the buffer has room again."""
_PAUSE_AFTER_SECS: Final = 2.0
"""Time without room after which partitions are paused, so that polling goes on. A pause discards prefetched records."""
_COMMIT_SECS: Final = 1.0
_SAY_SECS: Final = 30.0
"""Seconds between two reports of partitions whose cursors cannot be read."""
LAST_COMMIT_SECS: Final = 15.0
"""Longest time that the last commit is tried. A member that leaves amid a rebalance stops it for a session time-out."""

_NO_EPOCH: Final = -1
"""librdkafka's leader epoch where none is known."""

_T = TypeVar("_T")


@final
class KafkaConsumer:
    """A member of the consumer group while `run` lasts."""

    def __init__(
        self,
        profile: ConsumerProfile,
        topics: Sequence[str],
        assignment: Assignment,
        observe: Observer,
        *,
        identities: TopicIdentities,
        drain_secs: float,
        snapshots: Snapshots | None = None,
    ) -> None:
        """``drain_secs``: longest wait of a revoke or a stop for calls in flight.

        ``snapshots``: of the cursors for which a commit has no room; None for a topic that has no cursors.
        """
        self._assignment = assignment
        self._observe = observe
        self._topics = list(topics)
        self._identities = identities
        self._met = MetTopics()
        self._commits = Commits(snapshots, self._tell_trouble)
        self._drain_secs = drain_secs
        self._profile = profile
        self._thread = LoopThread("kafka-consumer")
        self._stopping = self._thread.stopping
        self._ask = self._thread.ask
        self._assigned: set[Partition] = set()
        self._paused: set[Partition] = set()
        self._unreadable: dict[Partition, str] = {}
        """Partitions of ours whose cursors cannot be read, and why. They stand still: nothing of them is committed."""
        self._said_at = float("-inf")
        self._last: dict[Partition, Committable] = {}
        self._held_since: float | None = None
        self._next_commit = 0.0
        self._fatal: KafkaError | None = None
        self._active = False
        self._polled_at = time.monotonic()
        self._keeper = StatisticsKeeper()

    @property
    def statistics(self) -> ClientStatistics:
        """The newest; librdkafka gives them every two seconds."""
        return self._keeper.newest

    @property
    def poll_age_secs(self) -> float:
        """Time since the thread last polled: more than a moment only amid a rebalance, or when it is stuck."""
        return time.monotonic() - self._polled_at

    async def run(self) -> None:
        """Consume until `stop`. Cancelling it drains as `stop` does. Raises `OperatorError` when Kafka refuses us."""
        await self._thread.run(self._main)

    def stop(self) -> None:
        """Ask for the end: finish calls in flight, commit, leave the group."""
        self._stopping.set()

    # Everything below runs on the consumer's thread.

    def _main(self) -> None:
        while not self._stopping.is_set():
            self._consume()

    def _consume(self) -> None:
        """Consume with a new client until `stop`, or until a topic was recreated."""
        self._met.begin_client()
        self._commits.answered()
        callbacks = {"error_cb": self._on_error, "on_commit": self._on_commit, "stats_cb": self._on_statistics}
        with as_operator_error("kafka.client"):
            consumer = Consumer(self._profile.properties() | callbacks)
        with consumer:
            consumer.subscribe(
                self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not self._stopping.is_set() and not self._met.is_outdated:
                self._step(consumer)
            if self._met.is_stuck:
                self._tell_trouble(
                    "a partition that has records is not read, and no error says why: its client is replaced"
                )
            self._give_back_all(consumer)

    def _step(self, consumer: Consumer) -> None:
        self._polled_at = time.monotonic()
        if self._fatal is not None:
            raise refused_for_good(self._fatal)
        if self._held_since is not None and time.monotonic() - self._held_since < _PAUSE_AFTER_SECS:
            self._stopping.wait(_HOLD_SECS)
            records = []
        else:
            records = records_of(self._poll(consumer), self._met.now)
        if time.monotonic() >= self._next_commit:
            self._commit(consumer, records)
            return
        flow_control = self._ask(self._assignment.accept, records)
        self._apply(consumer, flow_control)
        if flow_control.have_gaps:
            self._report_readings(consumer)

    def _poll(self, consumer: Consumer) -> list[Message]:
        messages = take_messages(consumer, _POLL_SECS, self._profile.batch, _BATCH_BYTES)
        failed = [(message, error) for message in messages if (error := message.error()) is not None]
        for message, error in failed:
            self._on_error(error, f"{message.topic()}/{message.partition()}: ")
            self._met.note_failure(Partition(str(message.topic()), message.partition() or 0))
        return [message for message in messages if message.error() is None] if failed else messages

    def _apply(self, consumer: Consumer, flow_control: FlowControl) -> None:
        if flow_control.seeks:
            self._ask(self._assignment.sought, self._seek_all(consumer, flow_control.seeks))  # the others come again
        self._met.note_unread(flow_control.unread - self._unreadable.keys())
        if not flow_control.hold:
            self._held_since = None
        elif self._held_since is None:
            self._held_since = time.monotonic()
        long_held = self._held_since is not None and time.monotonic() - self._held_since >= _PAUSE_AFTER_SECS
        wanted = set(self._assigned) if long_held else flow_control.full & self._assigned | self._unreadable.keys()
        if wanted != self._paused:
            consumer.pause([TopicPartition(*p) for p in wanted - self._paused])
            consumer.resume([TopicPartition(*p) for p in self._paused - wanted])
            self._paused = set(wanted)

    def _seek_all(self, consumer: Consumer, seeks: Mapping[Partition, ReadingPlace]) -> dict[Partition, ReadingPlace]:
        """Go on reading the partitions at these places; those for which that worked."""
        places = {
            p: TopicPartition(*p, place.offset, "", _NO_EPOCH if place.epoch is None else place.epoch)
            for p, place in seeks.items()
        }
        return {p: seeks[p] for p, place in places.items() if self._seek(consumer, place)}

    def _seek(self, consumer: Consumer, place: TopicPartition) -> bool:
        """Go on reading the partition there; True if that worked."""
        try:
            consumer.seek(place)
        except KafkaException as error:
            where = f"{place.topic}/{place.partition} cannot be read on at {place.offset}"
            self._tell(KafkaTrouble(f"{where}: {error.args[0].str()}"))
            return False
        return True

    def _commit(self, consumer: Consumer, records: Sequence[Record]) -> None:
        """Hand over the records of the last poll, and commit what has been released."""
        self._next_commit = time.monotonic() + _COMMIT_SECS
        self._say_unreadable()
        known = {topic: self._identities.known[topic] for topic in self._topics if topic in self._identities.known}
        readings = read_positions_of(consumer, self._assigned)
        flow_control, recreated, commits = self._ask(self._assignment.accept_poll, records, known, readings)
        self._apply(consumer, flow_control)
        self._met.follow(known, self._restart(consumer, recreated))
        if recreated:
            self._report_readings(consumer)
            commits = self._ask(self._assignment.committable)
        if commits:
            self._commits.commit_async(consumer, self._met.honest(dict(commits)))

    def _say_unreadable(self) -> None:
        if self._unreadable and time.monotonic() >= self._said_at + _SAY_SECS:
            self._said_at = time.monotonic()
            for problem in self._unreadable.values():
                self._tell_trouble(problem)

    def _restart(self, consumer: Consumer, recreated: Mapping[Partition, TopicIdentity]) -> Collection[Partition]:
        """Go back to the beginning of partitions whose topic was created again; those where that worked.

        An earlier commit carries the old topic's id, so a consumer that resumes from it recognises it.
        """
        begun = {
            p: topic for p, topic in recreated.items() if self._seek(consumer, TopicPartition(*p, OFFSET_BEGINNING))
        }
        if begun:
            self._commits.forget(begun)
            self._ask(self._assignment.restart, begun)
        return begun

    def _report_readings(self, consumer: Consumer) -> None:
        """All polled records must have been accepted: never call it in a callback of a poll."""
        self._ask(self._assignment.note_positions, read_positions_of(consumer, self._assigned))

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        self._commits.answered()
        # When our membership has ended (ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID) it is enough to report it: the broker
        # has refused the commit, and librdkafka calls `_on_lost` and joins again. After STALE_MEMBER_EPOCH the next
        # heartbeat brings the new epoch, and the next commit uses it. A heartbeat brings FENCED errors to `_on_lost`.
        refused = [f"{p.topic}/{p.partition}: {p.error.str()}" for p in partitions if p.error is not None]
        if too_large := [p for p in partitions if is_too_large(error) or is_too_large(p.error)]:
            self._tell(KafkaTrouble("offset.metadata.max.bytes of the broker is small: commits are made shorter"))
            self._ask(self._assignment.metadata.shorten, [commit for _, commit in commits_of(too_large)])
        elif error is not None or refused:
            self._tell(CommitFailed(error.str() if error is not None else "; ".join(refused)))
        else:
            self._ask(self._assignment.committed, commits_of(partitions))

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        topics = self._identities.ask(self._topics)
        known = self._learn(committed_offsets, consumer, partitions) or []
        committed = {partition_of(p): committable_of(p) for p in known}
        resumed = self._learn(resume, consumer, committed, topics, self._commits.restore)
        if resumed is None:  # the worker ends: records begun now would be committed without their cursors
            known, resumed = [], Resumed({}, {}, {})
        self._commits.start(known)
        self._met.assign(resumed.commits, topics)
        self._assigned |= {partition_of(p) for p in known}
        self._unreadable |= resumed.unreadable
        recreated = self._ask(self._assignment.assigned, resumed.commits, topics, resumed.cursors)
        self._commits.forget(recreated)
        self._begin(consumer, known, recreated)
        self._take_part(active=True)  # with the classic protocol also when there is no partition for us

    def _begin(self, consumer: Consumer, starts: list[TopicPartition], recreated: Collection[Partition]) -> None:
        """Begin to read the newly assigned partitions. In both group protocols a callback gets only those."""
        for start in starts:
            if partition_of(start) in recreated:
                start.offset = OFFSET_BEGINNING
        consumer.incremental_assign(starts)
        for start in starts:
            # Only a seek makes librdkafka ask whether the log was cut off below the offset since that leader epoch.
            if start.offset >= 0 and start.leader_epoch is not None:
                self._seek(consumer, start)

    def _learn(self, ask: Callable[..., _T], *arguments: object) -> _T | None:
        """The answer of Kafka about the group's commits; None when `stop` comes first.

        No record can be read before the answer, so this waits for it. The consumer itself could find the offsets, but a
        commit may be past events that only its cursors name. Heartbeats go on meanwhile.
        """
        while not self._stopping.is_set():
            try:
                return ask(*arguments)
            except KafkaException as error:
                self._tell(KafkaTrouble(f"the group's committed offsets could not be read: {error.args[0].str()}"))
            self._stopping.wait(1.0)
        return None

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = set(map(partition_of, partitions))
        commits = self._drain(gone) | {p: self._last.pop(p) for p in gone & self._last.keys()}
        self._release(consumer, gone)
        error = self._commits.commit_sync(consumer, commits)
        if error is not None:
            self._tell(CommitFailed(f"{error.str()}; uncommitted events are delivered again"))

    def _give_back_all(self, consumer: Consumer) -> None:
        """Drain everything and commit it before leaving: close() ends the membership, and commits with it."""
        self._report_readings(consumer)
        self._last = self._drain(self._assigned)
        deadline = time.monotonic() + LAST_COMMIT_SECS
        while (error := self._commits.commit_sync(consumer, self._last, deadline)) is not None:
            if time.monotonic() >= deadline:
                self._tell(CommitFailed(f"{error.str()}; uncommitted events are delivered again"))
                break
            # During a rebalance Kafka refuses commits, and the rebalance goes on only while we poll. Records
            # that arrive are ignored. Partitions that are revoked meanwhile leave `_last` in their callback.
            consumer.poll(_POLL_SECS)
        self._last = {}

    def _drain(self, partitions: set[Partition]) -> dict[Partition, Committable]:
        work = self._assignment.revoked(set(partitions), deadline_secs=self._drain_secs)
        return self._met.honest(dict(self._thread.await_(work)))

    def _release(self, consumer: Consumer, gone: set[Partition]) -> None:
        """Forget partitions. They are resumed first: librdkafka would keep them paused, also when they come back."""
        consumer.resume([TopicPartition(*p) for p in self._paused & gone])
        self._paused -= gone
        self._assigned -= gone
        self._unreadable = {partition: why for partition, why in self._unreadable.items() if partition not in gone}

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = set(map(partition_of, partitions))
        self._release(consumer, gone)
        self._last = {p: commit for p, commit in self._last.items() if p not in gone}
        self._ask(self._assignment.lost, gone)
        self._take_part(active=False)

    def _on_statistics(self, text: str) -> None:
        group = self._keeper(text)["cgrp"]
        if group["state"] != "up":
            self._take_part(active=False)
        elif group["join_state"] == "steady" or self._profile.kafka.group_protocol == "consumer":
            # KIP-848 has no state between asking for partitions and having some: a member in touch takes part.
            self._take_part(active=True)

    def _take_part(self, *, active: bool) -> None:
        if active != self._active:
            self._active = active
            self._tell(Membership(self._profile.group_id, active))

    def _on_error(self, error: KafkaError, where: str = "") -> None:
        if is_hopeless(error):
            self._fatal = error
        elif error.code() != END_OF_PARTITION:
            self._tell(KafkaTrouble(where + error.str()))

    def _tell_trouble(self, problem: str) -> None:
        self._tell(KafkaTrouble(problem))

    def _tell(self, signal: Signal) -> None:
        self._thread.tell(self._observe, signal)
