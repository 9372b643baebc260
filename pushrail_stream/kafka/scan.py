"""Scan: a topic read by somebody who is no worker, from a time or from offsets, to its present end or on and on."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Self, cast, final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from pushrail_stream.core.offsets import was_recreated
from pushrail_stream.core.record import Partition, Record
from pushrail_stream.errors import OperatorError, TopicRecreated
from pushrail_stream.kafka.admin import offsets_for_time, retry_while_settling
from pushrail_stream.kafka.chunks import Chunks
from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.kafka.records import records_of
from pushrail_stream.kafka.topic_ids import TopicIdentities
from pushrail_stream.kafka.unreadable import UnreadableBatch, end_of_unreadable, is_unreadable

_BATCH: Final = 2_000
_CHUNK_BYTES: Final = 16 * 2**20
"""Bytes of a batch of large records, about: decompressed, they may be many times what Kafka holds."""
_FETCH_BYTES: Final = 262_144
"""Compressed bytes fetched at once from each broker. The answer to a fetch is decompressed whole."""
_POLL_SECS: Final = 0.2
_TIMEOUT_SECS: Final = 15.0
_SLACK_MS: Final = 60_000
"""Kafka's timestamps are their producers': a record may be stamped so much earlier than what it tells of."""
_STALL_SECS: Final = 30.0
"""Without a record for so long, although there are some to come, it is broken off."""
_IDENTITY_SECS: Final = 5.0
"""How often to ask whether the topic was created again meanwhile."""
_FINAL: Final = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - its public name
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    }
)
"""Errors that waiting does not mend: the topic was deleted, or may not be read any more."""


class Progress(NamedTuple):
    """Offsets that are done, of those there were."""

    done: int
    total: int


@final
class Scan:
    """Batches of records of all partitions at once, in order within each. Only what was committed is seen.

    It joins no group and commits nothing. Raises `OperatorError` when Kafka cannot be reached or there is no
    such topic, and while it is read when the topic has gone or nothing comes any more.
    """

    def __init__(
        self,
        options: KafkaOptions,
        topic: str,
        *,
        since_ms: int | None = None,
        starts: Mapping[int, int] | None = None,
        only: Collection[int] | None = None,
        follow: bool = False,
    ) -> None:
        """From ``since_ms`` (epoch ms) and from ``starts`` (offsets by partition) on, whichever comes later.

        Of ``only`` these partitions, those of them that exist.
        The time is taken with slack: look at each record's own. With ``follow`` it never ends.
        """
        self._topic = topic
        self._options = options
        self._servers = options.bootstrap_servers
        self._only = only
        self._follow = follow
        self._problem: KafkaError | None = None
        self._chunks = Chunks(_BATCH, _CHUNK_BYTES)
        self.unreadable: list[tuple[Partition, UnreadableBatch]] = []
        """Batches that were stepped over because the client cannot read them."""
        self._identities = TopicIdentities(options)
        self._topics = self._identities.ask([topic])
        self._look_again_at = time.monotonic() + _IDENTITY_SECS
        ahead = {
            "fetch.wait.max.ms": 100,
            "topic.metadata.propagation.max.ms": 5_000,  # how soon it believes that a topic is gone
            "queued.max.messages.kbytes": 16_384,
            **options.fetch_sizes(_FETCH_BYTES),
        }
        self._consumer = Consumer(options.reader(f"{options.group_id}.scan", ahead) | {"error_cb": self._note})
        try:
            self._ends, self._starts = retry_while_settling(lambda: self._bounds(since_ms, starts))
        except KafkaException as error:
            self._consumer.close()
            raise self._failed(error) from error
        except OperatorError:
            self._consumer.close()
            raise
        self._positions = dict(self._starts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._consumer.close()

    @property
    def topic_id(self) -> str | None:
        """Kafka's id of the topic that is read; None where the broker does not tell ids."""
        topic = self._topics.get(self._topic)
        return None if topic is None else topic.topic_id

    @property
    def progress(self) -> Progress:
        """How far it is, in offsets."""
        total = sum(self._ends[n] - start for n, start in self._starts.items())
        done = sum(min(self._positions[n], self._ends[n]) - start for n, start in self._starts.items())
        return Progress(done, total)

    @property
    def positions(self) -> Mapping[int, int]:
        """By partition the offset to go on from."""
        return self._positions

    def __iter__(self) -> Iterator[list[Record]]:
        """Batches, some of them empty while nothing comes."""
        vain = 0
        try:
            self._consumer.assign([TopicPartition(self._topic, n, start) for n, start in self._starts.items()])
            while self._follow or any(self._positions[n] < end for n, end in self._ends.items()):
                before = dict(self._positions)
                yield self._read()
                vain = vain + 1 if self._positions == before else 0
                if vain * _POLL_SECS >= _STALL_SECS and not self._follow:
                    raise self._stalled()
                if time.monotonic() >= self._look_again_at:
                    self._look_again()
            self._look_again()
        except KafkaException as error:
            raise self._failed(error) from error

    def _look_again(self) -> None:
        """Raise `TopicRecreated` when the topic was created again: the same offsets name other records now."""
        self._look_again_at = time.monotonic() + _IDENTITY_SECS
        now = self._identities.ask([self._topic])
        if was_recreated(self._topics.get(self._topic), now.get(self._topic)):
            raise TopicRecreated(f"{self._topic} was deleted and created again while it was being read: begin anew")
        self._topics = now

    def _read(self) -> list[Record]:
        messages = []
        for message in self._chunks.take(self._consumer, _POLL_SECS):
            if (error := message.error()) is None:
                messages.append(message)
            elif is_unreadable(error):
                self._step_over(message)
            else:
                self._note(error)
        if self._problem is not None and self._problem.code() in _FINAL:
            raise KafkaException(self._problem)
        records = [r for r in records_of(messages, self._topics) if self._follow or r.offset < self._ends[r.partition]]
        for number in self._positions:
            # The consumer's own position, past what compaction and transactions left out.
            [position] = self._consumer.position([TopicPartition(self._topic, number)])
            self._positions[number] = max(self._positions[number], position.offset)
        return records

    def _step_over(self, failed: Message) -> None:
        """Go on after a batch that cannot be read."""
        number = cast("int", failed.partition())
        first = max(self._positions[number], cast("int", failed.offset()))
        end = end_of_unreadable(self._options, Partition(self._topic, number), first)
        self.unreadable.append((Partition(self._topic, number), UnreadableBatch(first, end)))
        self._consumer.seek(TopicPartition(self._topic, number, end))
        self._positions[number] = end

    def _note(self, error: KafkaError) -> None:
        self._problem = error

    def _bounds(self, since_ms: int | None, starts: Mapping[int, int] | None) -> tuple[dict[int, int], dict[int, int]]:
        known = self._consumer.list_topics(self._topic, timeout=_TIMEOUT_SECS).topics[self._topic]
        if known.error is not None:
            raise KafkaException(known.error)
        if not known.partitions:
            what = f"topic {self._topic} does not exist at {self._servers}"
            raise OperatorError(f"{what}; `pushrail-stream topics create` makes it")
        firsts, ends = {}, {}
        for number in known.partitions if self._only is None else [n for n in self._only if n in known.partitions]:
            firsts[number], ends[number] = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, number), timeout=_TIMEOUT_SECS
            )
        begin = dict(firsts)
        if since_ms is not None and since_ms > _SLACK_MS:  # Kafka finds no record without a time by its time
            begin |= offsets_for_time(self._consumer, self._topic, since_ms - _SLACK_MS, ends)
        for number, start in (starts or {}).items():
            if number in begin:
                begin[number] = max(begin[number], min(start, ends[number]))
        return ends, begin

    def _stalled(self) -> OperatorError:
        last = "" if self._problem is None else f" (the last error: {self._problem.str()})"
        return OperatorError(
            f"{self._topic} cannot be read at {self._servers}: nothing came for {_STALL_SECS:.0f} s{last}"
        )

    def _failed(self, error: KafkaException) -> OperatorError:
        return OperatorError(f"{self._topic} cannot be read at {self._servers}: {error.args[0].str()}")
