"""Scan: a topic read by somebody who is no worker, from a time or from offsets, to its present end or on and on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Self, final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from pushrail_stream.core.record import Record
from pushrail_stream.kafka.messages import records_of
from pushrail_stream.kafka.moments import patiently
from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.ports import Failed

_BATCH: Final = 10_000
_POLL_SECS: Final = 0.2
_TIMEOUT_SECS: Final = 15.0
_SLACK_MS: Final = 60_000
"""Kafka's timestamps are their producers': a record may lie so far from where its time says."""


class Progress(NamedTuple):
    """Offsets that are done, of those there were."""

    done: int
    total: int


@final
class Scan:
    """Batches of records of all partitions at once, in order within each. Only what was committed is seen.

    It joins no group and commits nothing. Raises `Failed` when Kafka cannot be reached or there is no such topic.
    """

    def __init__(
        self,
        options: KafkaOptions,
        topic: str,
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
        starts: Mapping[int, int] | None = None,
        only: Collection[int] | None = None,
        follow: bool = False,
    ) -> None:
        """From ``starts`` (offsets by partition; others from their beginning), else from ``since_ms`` (epoch ms).

        Of ``only`` these partitions, those of them that exist.
        Both times are taken with slack: look at each record's own. With ``follow`` it never ends.
        """
        self._topic = topic
        self._servers = options.bootstrap_servers
        self._only = only
        self._follow = follow
        self._consumer = Consumer(
            {
                "fetch.wait.max.ms": 100,
                "queued.max.messages.kbytes": 65_536,
                **options.common(),
                "group.id": f"{options.group_id}.scan",  # librdkafka wants one; it is never joined
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "error_cb": lambda _error: None,
            }
        )
        try:
            self._ends, self._starts = patiently(lambda: self._bounds(since_ms, until_ms, starts))
        except KafkaException as error:
            self._consumer.close()
            raise self._failed(error) from error
        except Failed:
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
        try:
            self._consumer.assign([TopicPartition(self._topic, n, start) for n, start in self._starts.items()])
            while self._follow or any(self._positions[n] < end for n, end in self._ends.items()):
                yield self._read()
        except KafkaException as error:
            raise self._failed(error) from error

    def _read(self) -> list[Record]:
        messages = [m for m in self._consumer.consume(_BATCH, _POLL_SECS) if m.error() is None]
        records = [r for r in records_of(messages) if self._follow or r.offset < self._ends[r.partition]]
        for number in self._positions:
            # The consumer's own position, past what compaction and transactions left out.
            [position] = self._consumer.position([TopicPartition(self._topic, number)])
            self._positions[number] = max(self._positions[number], position.offset)
        return records

    def _bounds(
        self, since_ms: int | None, until_ms: int | None, starts: Mapping[int, int] | None
    ) -> tuple[dict[int, int], dict[int, int]]:
        known = self._consumer.list_topics(self._topic, timeout=_TIMEOUT_SECS).topics[self._topic]
        if known.error is not None:
            raise KafkaException(known.error)
        if not known.partitions:
            what = f"topic {self._topic} does not exist at {self._servers}"
            raise Failed(f"{what}; `pushrail-stream topics create` makes it")
        firsts, ends = {}, {}
        for number in known.partitions if self._only is None else [n for n in self._only if n in known.partitions]:
            firsts[number], ends[number] = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, number), timeout=_TIMEOUT_SECS
            )
        begin = dict(firsts)
        if starts is not None:
            begin |= {n: min(max(starts[n], firsts[n]), ends[n]) for n in firsts if n in starts}
        elif since_ms is not None:
            begin |= self._offsets_at(since_ms - _SLACK_MS, ends)
        if until_ms is not None:
            ends = {n: max(end, begin[n]) for n, end in self._offsets_at(until_ms + _SLACK_MS, ends).items()}
        return ends, begin

    def _offsets_at(self, epoch_ms: int, ends: Mapping[int, int]) -> dict[int, int]:
        """By partition the first offset of this time or later; the end where there is none."""
        wanted = [TopicPartition(self._topic, number, max(epoch_ms, 0)) for number in ends]
        found = self._consumer.offsets_for_times(wanted, timeout=_TIMEOUT_SECS)
        return {p.partition: p.offset if p.offset >= 0 else ends[p.partition] for p in found}

    def _failed(self, error: KafkaException) -> Failed:
        return Failed(f"{self._topic} cannot be read at {self._servers}: {error.args[0].str()}")
