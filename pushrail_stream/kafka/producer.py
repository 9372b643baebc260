"""Producers: each has a thread of its own, which brings its delivery reports to the loop that waits for them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Self, cast, final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pushrail_stream.core.record import Headers
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.errors import FATAL
from pushrail_stream.kafka.statistics import INTERVAL_MS, StatisticsKeeper
from pushrail_stream.ports.kafka import ClientStatistics
from pushrail_stream.ports.pipeline import PublishError
from pushrail_stream.settings.model import KafkaSettings

FLUSH_SECS: Final = 5.0
"""Longest wait, at the end, for attempt records that Kafka has not acknowledged. No caller waits for them otherwise."""
BURST_SECS: Final = 0.1
"""Longest wait of an attempt record for others, in seconds. It is lost when the process is killed meanwhile."""
_BURST_RECORDS: Final = 300
"""Most attempt records that wait for others: about 0.2 MB. Each record alone would wake librdkafka's threads, which
costs 0.6 µs more of CPU time; larger bursts save no more."""
_POLL_SECS: Final = 0.1
_PURGED_SECS: Final = 1.0
"""Longest wait for the reports of purged records, in seconds: they come at once."""
_ANY: Final = -1
"""librdkafka's number for the partition that the key chooses."""


class PolledProducer:
    """A producer, and the thread that polls it from the beginning of an ``async with`` block to its end."""

    flush_secs = 0.0
    """Longest wait, at the end, for records that Kafka has not acknowledged."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._keeper = StatisticsKeeper()
        self._producer = Producer({**properties, "stats_cb": self._keeper, "statistics.interval.ms": INTERVAL_MS})
        self._loop = asyncio.get_running_loop()
        self._fatal = ""
        """The error after which the producer writes nothing any more."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="kafka-producer", daemon=True)

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._loop.run_in_executor(None, self._end)

    @property
    def statistics(self) -> ClientStatistics:
        """The newest that librdkafka gave."""
        return self._keeper.newest

    @property
    def waiting(self) -> int:
        """Records that Kafka has not acknowledged."""
        return len(self._producer)

    def fatal_error(self, last: str = "") -> OperatorError | None:
        """The error for callers of a producer that writes nothing any more; None if it can go on.

        ``last``: a fatal error that the polling thread has not met yet.
        """
        reason = self._fatal or last
        return OperatorError(f"the Kafka producer cannot go on, restart this program: {reason}") if reason else None

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                self._producer.poll(_POLL_SECS)
            except Exception as error:  # noqa: BLE001 - if this thread ended, callers would wait without end
                self._fatal = self._fatal or (error.args[0].str() if isinstance(error, KafkaException) else repr(error))
                # Records on their way will not arrive: their reports come now, not when their time-out has passed.
                self._producer.purge()

    def _end(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._wait(self.flush_secs)
        self._producer.purge()  # else librdkafka complains on stderr
        self._wait(_PURGED_SECS)

    def _wait(self, secs: float) -> None:
        """Wait for the reports of all records. A fatal error that is met only now reaches no caller.

        `Producer.flush` would call back after such an error, which ends in a SystemError.
        """
        until = time.monotonic() + secs
        while len(self._producer) and (left := until - time.monotonic()) > 0:
            with suppress(KafkaException):
                self._producer.poll(min(left, _POLL_SECS))


@final
class KafkaPublisher(PolledProducer):
    """Writes records that must not be lost. Implements `ports.Publisher`: idempotent, ``acks=all``."""

    def __init__(self, kafka: KafkaSettings, properties: Mapping[str, Any] | None = None) -> None:
        """``properties``: of another producer than that of copies."""
        super().__init__(properties or client_properties.copies_producer(kafka))

    async def publish(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, *, partition: int = _ANY
    ) -> None:
        """As `Publisher.publish`. Raises `OperatorError` when no record can be written any more."""
        await self._write(topic, key, value, headers, partition)

    async def place(self, topic: str, key: bytes, value: bytes) -> tuple[int, int]:
        """Write a record as `publish` does; the partition and the offset at which Kafka has it."""
        message = await self._write(topic, key, value, (), _ANY)
        return cast("int", message.partition()), cast("int", message.offset())

    async def _write(
        self, topic: str, key: bytes | None, value: bytes | None, headers: Headers, partition: int
    ) -> Message:
        acknowledged: asyncio.Future[None] = self._loop.create_future()
        reported: list[Message] = []

        def report(error: KafkaError | None, message: Message) -> None:
            reported.append(message)
            failure = None if error is None else self._failure(topic, error)
            self._loop.call_soon_threadsafe(resolve, acknowledged, failure)

        try:
            self._producer.produce(topic, value, key, partition, headers=list(headers), on_delivery=report)
        except BufferError as error:
            raise PublishError(f"{topic}: the producer's queue is full") from error
        except KafkaException as error:
            raise self._failure(topic, error.args[0]) from error
        await acknowledged
        return reported[0]

    def _failure(self, topic: str, error: KafkaError) -> OperatorError:
        advice = f"; raise max.message.bytes of {topic}" if error.code() == KafkaError.MSG_SIZE_TOO_LARGE else ""
        return self.fatal_error(error.str() if error.code() == FATAL else "") or PublishError(
            f"{topic}: {error.str()}{advice}"
        )


@final
class KafkaLog(PolledProducer):
    """Appends to a topic without waiting, with a producer of its own, so that it never delays a dead letter."""

    def __init__(
        self, kafka: KafkaSettings, topic: str, *, headers: Headers = (), flush_secs: float = FLUSH_SECS
    ) -> None:  # fmt: skip
        """``headers``: of every record. ``flush_secs``: longest wait, at the end, for records to be acknowledged."""
        super().__init__(client_properties.log_producer(kafka) | {"on_delivery": self._report})
        self.flush_secs = flush_secs
        self._topic = topic
        self._headers: list[tuple[str, str | bytes | None]] | None = list(headers) or None
        self._burst: list[tuple[bytes, bytes]] = []
        """Keys and values of the records that wait for others."""
        self._timer: asyncio.TimerHandle | None = None
        """Ends their wait."""
        # Each is counted in one thread alone.
        self._refused = 0
        self._failed = 0

    @property
    def lost(self) -> int:
        """Records that were not written, with those that the end cut off before their report came."""
        return self._refused + self._failed

    async def __aexit__(self, *failure: object) -> None:
        self._hand_over()
        await super().__aexit__(*failure)

    @property
    def waiting(self) -> int:
        """Records that Kafka has not acknowledged."""
        return len(self._burst) + super().waiting

    def append(self, key: bytes, *values: bytes) -> None:
        """Write records of this key when they can be written, together with others."""
        self._burst += [(key, value) for value in values]
        if len(self._burst) >= _BURST_RECORDS:
            self._hand_over()
        elif self._timer is None:
            self._timer = self._loop.call_later(BURST_SECS, self._hand_over)

    def _hand_over(self) -> None:
        """Hand the waiting records to librdkafka."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        burst, self._burst = self._burst, []
        for key, value in burst:
            try:
                self._producer.produce(self._topic, value, key, headers=self._headers)
            except (BufferError, KafkaException):
                self._refused += 1

    def _report(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._failed += 1


def resolve(acknowledged: asyncio.Future[None], failure: OperatorError | None = None) -> None:
    """End a wait, unless it was cancelled."""
    if acknowledged.cancelled():
        return
    if failure is None:
        acknowledged.set_result(None)
    else:
        acknowledged.set_exception(failure)
