"""Batches that the client cannot read: this finds the end of one, so that a reader can step over it.

Producers compress whole batches, and a broker serves whole batches. librdkafka does not decompress a zstd batch to more
than ``receive.message.max.bytes``, and reports the same error again and again without passing it.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple, final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from pushrail_stream.core.record import Partition
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.admin import settled_bounds_of
from pushrail_stream.kafka.errors import END_OF_PARTITION, UNREADABLE, as_operator_error, cannot_be_read
from pushrail_stream.kafka.librdkafka import parse_number
from pushrail_stream.settings.model import KafkaSettings

_POLL_SECS: Final = 0.1
_ANSWER_SECS: Final = 15.0
_LIMIT: Final = "receive.message.max.bytes"
_SMALL: Final = {_LIMIT: 16_000_000, "fetch.max.bytes": 8_000_000}
"""Small limits make every large batch unreadable without decompressing it: the error alone tells its first offset."""


class UnreadableBatch(NamedTuple):
    """The offsets from ``first`` to below ``end``. The number of records among them is not known."""

    first: int
    end: int


def find_unreadable(kafka: KafkaSettings, partition: Partition, offset: int) -> UnreadableBatch | None:
    """The batch at ``offset`` if the client cannot read it; None if it can, or if no record is left from there on.

    Raises `OperatorError` when Kafka cannot be reached or there is no such partition.
    """
    with as_operator_error(cannot_be_read(partition, kafka)):
        with _probe(kafka, partition, {}) as probe:
            if not is_unreadable(probe.at(offset)):
                return None
        return UnreadableBatch(offset, end_of_unreadable(kafka, partition, offset))


def end_of_unreadable(kafka: KafkaSettings, partition: Partition, offset: int) -> int:
    """The first offset after the batch that holds ``offset`` and cannot be read. Raises KafkaException."""
    limit = parse_number(kafka.client.root.get(_LIMIT)) or _SMALL[_LIMIT]
    with _probe(kafka, partition, {} if limit < _SMALL[_LIMIT] else _SMALL) as probe:
        inside, step = offset, 1
        while probe.is_inside(inside + step, offset):
            inside, step = inside + step, 2 * step
        after = range(inside + step)
        return bisect_left(after, True, inside + 1, key=lambda middle: not probe.is_inside(middle, offset))


@final
class _Probe:
    """Reads at single offsets, without a group."""

    def __init__(self, consumer: Consumer, partition: Partition, end: int) -> None:
        self._consumer = consumer
        self._partition = partition
        self._end = end

    def at(self, offset: int) -> Message | None:
        """The first record from ``offset`` on, or the error in its place; None at the end of the partition."""
        if offset >= self._end:
            return None
        self._consumer.assign([TopicPartition(*self._partition, offset)])
        until = time.monotonic() + _ANSWER_SECS
        while time.monotonic() < until:
            message = self._consumer.poll(_POLL_SECS)
            if message is None:
                continue
            error = message.error()
            if error is None or error.code() in UNREADABLE:
                return message
            if error.code() == END_OF_PARTITION:
                return None
            if not error.retriable():
                raise KafkaException(error)
        raise OperatorError(f"{self._partition} cannot be read: nothing came for {_ANSWER_SECS:.0f} s")

    def is_inside(self, offset: int, known: int) -> bool:
        """Whether ``offset`` lies in the batch that holds ``known``, which is lower and cannot be read."""
        found = self.at(offset)
        if found is None or not is_unreadable(found):
            return False
        first = found.offset()  # the first offset of the batch that could not be read
        return first is not None and first <= known


@contextmanager
def _probe(kafka: KafkaSettings, partition: Partition, limits: Mapping[str, int]) -> Iterator[_Probe]:
    quick = {"fetch.wait.max.ms": 10, "fetch.error.backoff.ms": 10, "queued.max.messages.kbytes": 1_024}
    properties = client_properties.reader(kafka, f"{kafka.group_id}.skip", quick)
    with Consumer({**properties, "enable.partition.eof": True, **limits}) as consumer:
        _, end = settled_bounds_of(consumer, *partition)
        yield _Probe(consumer, partition, end)


def is_unreadable(found: Message | None) -> bool:
    """Whether this stands for a batch that the client cannot read."""
    error = None if found is None else found.error()
    return error is not None and error.code() in UNREADABLE
