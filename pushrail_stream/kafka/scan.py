"""Scans: a topic read outside any group, from a time or from offsets, to its present end or on and on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Self, cast, final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pushrail_stream.blocking import in_daemon_thread, start_daemon_thread
from pushrail_stream.core.record import Partition, Record
from pushrail_stream.errors import OperatorError, TopicRecreated
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.admin import bounds_of, offsets_for_time, partitions_of, positions_of, retry_while_settling
from pushrail_stream.kafka.errors import TOPIC_GONE, UNREADABLE, as_operator_error, cannot_be_read
from pushrail_stream.kafka.records import records_of, take_messages
from pushrail_stream.kafka.topic_ids import TopicWatch
from pushrail_stream.kafka.unreadable import UnreadableBatch, end_of_unreadable
from pushrail_stream.settings.model import KafkaSettings

_BATCH: Final = 2_000
_BATCH_BYTES: Final = 16 * 2**20
"""Approximate bytes of a batch of large records: decompressed, they may be many times larger than in Kafka."""
_FETCH_BYTES: Final = 262_144
"""Compressed bytes fetched at once from each broker. The answer to a fetch is decompressed whole."""
_POLL_SECS: Final = 0.2
_SLACK_MS: Final = 60_000
"""Kafka's timestamps come from the producers: a record may be stamped this much earlier than the fact that it tells."""
_STALL_SECS: Final = 30.0
"""Time without a record, although more must come, after which the scan fails."""
_IDENTITY_SECS: Final = 5.0
"""Time between two questions whether the topic was created again."""


class Progress(NamedTuple):
    """Offsets that are done, of all that there were."""

    done: int
    total: int


@final
class Scan:
    """Batches of records of all partitions at once, in order within each. Only committed records are seen.

    It joins no group and commits nothing. Raises `OperatorError` when Kafka cannot be reached or there is no such
    topic, and later when the topic has gone or nothing comes any more.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        topic: str,
        *,
        since_ms: int | None = None,
        starts: Mapping[int, int] | None = None,
        only: Collection[int] | None = None,
        newest: int | None = None,
        follow: bool = False,
    ) -> None:
        """From ``since_ms`` (epoch ms) and from ``starts`` (offsets by partition) on, whichever comes later.

        ``only``: the partitions to read, as far as they exist. ``newest``: at most the last offsets of each.
        The time is taken with slack: look at each record's own.
        With ``follow`` the scan never ends.
        """
        self._topic = topic
        self._kafka = kafka
        self._only = only
        self._newest = newest
        self._follow = follow
        self._problem: KafkaError | None = None
        self.unreadable: list[tuple[Partition, UnreadableBatch]] = []
        """Batches that were stepped over because the client cannot read them."""
        self._watch = TopicWatch(kafka, topic, _IDENTITY_SECS)
        self._watch.was_recreated()
        ahead = {
            "fetch.wait.max.ms": 100,
            "topic.metadata.propagation.max.ms": 5_000,  # how soon the client believes that a topic is gone
            "queued.max.messages.kbytes": 16_384,
            **client_properties.fetch_sizes(kafka, _FETCH_BYTES),
        }
        properties = client_properties.reader(kafka, f"{kafka.group_id}.scan", ahead)
        self._consumer = Consumer(properties | {"error_cb": self._note})
        self._cannot_be_read = cannot_be_read(topic, kafka)
        try:
            with as_operator_error(self._cannot_be_read):
                self._ends, self._starts = retry_while_settling(lambda: self._bounds(since_ms, starts))
        except OperatorError:
            self._consumer.close()
            raise
        self._positions = dict(self._starts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()

    @property
    def topic_id(self) -> str | None:
        """Kafka's id of the topic that is read; None if the broker does not tell ids."""
        return self._watch.identities.id_of(self._topic)

    @property
    def reaches_back(self) -> bool:
        """Whether Kafka has removed no record behind the scan's beginning: it has older ones, or all."""
        return all(first == 0 or first < self._starts[number] for number, first in self._firsts.items())

    @property
    def progress(self) -> Progress:
        """The part of the offsets that is done."""
        total = sum(self._ends[n] - start for n, start in self._starts.items())
        done = sum(min(self._positions[n], self._ends[n]) - start for n, start in self._starts.items())
        return Progress(done, total)

    @property
    def positions(self) -> Mapping[int, int]:
        """By partition the offset to go on from."""
        return self._positions

    @property
    def ends(self) -> Mapping[int, int]:
        """By partition the offset below which the scan ends."""
        return self._ends

    @property
    def problem(self) -> str:
        """Kafka's last error, while nothing has come since; else empty."""
        return "" if self._problem is None else self._problem.str()

    def __iter__(self) -> Iterator[list[Record]]:
        """Batches, some of them empty while nothing comes."""
        vain = 0
        with as_operator_error(self._cannot_be_read):
            self._consumer.assign([TopicPartition(self._topic, n, start) for n, start in self._starts.items()])
            while self._follow or any(self._positions[n] < end for n, end in self._ends.items()):
                before = dict(self._positions)
                yield self._read()
                vain = vain + 1 if self._positions == before else 0
                if vain * _POLL_SECS >= _STALL_SECS and not self._follow:
                    last = "" if self._problem is None else f" (the last error: {self._problem.str()})"
                    raise OperatorError(f"{self._cannot_be_read}: nothing came for {_STALL_SECS:.0f} s{last}")
                if self._watch.is_due():
                    self._check_topic()
            self._check_topic()

    def _check_topic(self) -> None:
        """Raise `TopicRecreated` when the topic was created again: the same offsets name other records now."""
        if self._watch.was_recreated():
            raise TopicRecreated(f"{self._topic} was deleted and created again while it was being read: start again")

    def _read(self) -> list[Record]:
        messages = []
        for message in take_messages(self._consumer, _POLL_SECS, _BATCH, _BATCH_BYTES):
            if (error := message.error()) is None:
                messages.append(message)
                self._problem = None
            elif error.code() in UNREADABLE:
                self._step_over(message)
            else:
                self._note(error)
        if self._problem is not None and self._problem.code() in TOPIC_GONE:
            raise KafkaException(self._problem)
        records = records_of(messages, self._watch.identities.known)
        for number, position in positions_of(self._consumer, self._topic, self._positions).items():
            self._positions[number] = max(self._positions[number], position)
        return [record for record in records if self._follow or record.offset < self._ends[record.partition]]

    def _step_over(self, failed: Message) -> None:
        """Go on after a batch that cannot be read."""
        partition = Partition(self._topic, cast("int", failed.partition()))
        first = max(self._positions[partition.number], cast("int", failed.offset()))
        end = end_of_unreadable(self._kafka, partition, first)
        self.unreadable.append((partition, UnreadableBatch(first, end)))
        self._consumer.seek(TopicPartition(*partition, end))
        self._positions[partition.number] = end

    def _note(self, error: KafkaError) -> None:
        self._problem = error

    def _bounds(self, since_ms: int | None, starts: Mapping[int, int] | None) -> tuple[dict[int, int], dict[int, int]]:
        partitions = partitions_of(self._consumer, self._topic)
        if not partitions:
            missing = f"topic {self._topic} does not exist at {self._kafka.bootstrap_servers}"
            raise OperatorError(f"{missing}; `pushrail-stream topics create` makes it")
        wanted = partitions if self._only is None else [number for number in self._only if number in partitions]
        bounds = {number: bounds_of(self._consumer, self._topic, number) for number in wanted}
        self._firsts = {number: first for number, (first, _) in bounds.items()}
        begin = dict(self._firsts)
        ends = {number: end for number, (_, end) in bounds.items()}
        if since_ms is not None and since_ms > _SLACK_MS:  # Kafka finds no record without a time by its time
            # The scan begins at the first record if the broker cannot look up by time.
            begin |= offsets_for_time(self._consumer, self._topic, since_ms - _SLACK_MS, bounds) or {}
        for number, start in (starts or {}).items():
            if number in begin:
                begin[number] = max(begin[number], min(start, ends[number]))
        if self._newest is not None:
            begin = {number: max(first, ends[number] - self._newest) for number, first in begin.items()}
        return ends, begin


async def read_to_end(kafka: KafkaSettings, topic: str, starts: Mapping[int, int]) -> AsyncGenerator[Sequence[Record]]:
    """Batches of records from these offsets, by partition, to the present ends. As `Scan`, on a thread of its own."""
    scan = await in_daemon_thread(Scan, kafka, topic, starts=starts, only=list(starts))
    batches = iter(scan)
    try:
        while (batch := await in_daemon_thread(next, batches, None)) is not None:
            yield batch
    finally:
        # Not waited for: the call that is in progress when a worker stops keeps the consumer for a moment.
        start_daemon_thread(scan.close)
