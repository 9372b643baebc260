"""The topics of workers and of control: every worker writes its state, reads requests and answers them.

Only the first partition is used, so that a state and its end, and a request and its answers, never lie apart.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, Self, final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.admin import settled_bounds_of
from pushrail_stream.kafka.errors import OUT_OF_REACH, as_operator_error
from pushrail_stream.kafka.producer import KafkaPublisher
from pushrail_stream.kafka.records import take_messages
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.settings.model import KafkaSettings, TopicsSettings

_PARTITION: Final = 0
_POLL_SECS: Final = 0.5
"""Longest wait for messages in one call of librdkafka, in seconds: closing waits for its end."""
_BATCH: Final = 100
_BATCH_BYTES: Final = 2**20
"""Bytes after which no further message is taken from librdkafka's queue, at most `_BATCH` messages."""
_FETCH_WAIT_MS: Final = 5_000
"""Milliseconds that the broker waits for a message before it answers that there is none. A message is sent at once."""
_LIST_SECS: Final = 15.0
"""Longest wait for the list of topics, in seconds: Kafka may elect a leader meanwhile."""
_CLOSE_SECS: Final = 2.0
"""Longest wait for the consumer to close, in seconds."""
_KEPT_SECS: Final = 600.0
"""Seconds for which the last state of a worker that was killed is kept: time to see on a page that it is lost."""
_MAX_STATES: Final = 1_000
"""Most workers whose states are kept, far above any fleet. Anyone who may write to the topic can invent workers."""
_MAX_STATE_BYTES: Final = 64 * 2**10
"""Largest state that is kept, with its key, in bytes, as CONTRACTS.md has it. All kept states have at most 64 MiB."""
_BEYOND: Final = 2**62
"""An offset after every record: a scan from there begins at the end."""


@final
class FleetTopics:
    """One worker's way to the topics. Implements `ports.fleet.FleetLink`, with clients of its own."""

    def __init__(self, kafka: KafkaSettings, topics: TopicsSettings, worker_id: str) -> None:
        self._workers = topics.workers
        self._control = topics.control
        self._key = worker_id.encode()
        self._producer = KafkaPublisher(kafka, client_properties.fleet_producer(kafka))
        ours = {"fetch.wait.max.ms": _FETCH_WAIT_MS}
        self._consumer = Consumer(client_properties.reader(kafka, f"{kafka.group_id}.control", ours))
        self._kafka = kafka
        self._found = set[str]()
        """Topics that existed when they were last used."""
        self._is_reading = False
        self._states: dict[bytes, tuple[float, bytes]] = {}
        """By worker the time at which its newest state came, and the state. The oldest is the first."""
        self._closing = threading.Event()

    async def __aenter__(self) -> Self:
        await self._producer.__aenter__()
        return self

    async def __aexit__(self, *exit_: object) -> None:
        self._closing.set()
        # A call that waits for Kafka keeps the consumer, and the end of the process does not wait for that.
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECS):
                await in_daemon_thread(self._consumer.close)
        await self._producer.__aexit__(*exit_)

    async def write_state(self, state: bytes | None) -> None:
        """As `FleetLink.write_state`."""
        await self._write(self._workers, self._key, state)

    async def write_answer(self, answer: bytes) -> None:
        """As `FleetLink.write_answer`."""
        await self._write(self._control, self._key, answer)

    def others(self) -> Sequence[bytes]:
        """As `FleetLink.others`."""
        return [state for key, (_, state) in list(self._states.items()) if key != self._key]

    async def begin(self) -> None:
        """As `FleetLink.begin`."""
        await in_daemon_thread(self._begin)

    async def requests(self) -> Sequence[bytes]:
        """As `FleetLink.requests`."""
        return await in_daemon_thread(self._read)

    async def _write(self, topic: str, key: bytes, value: bytes | None) -> None:
        await in_daemon_thread(self._check, topic)
        try:
            await self._producer.publish(topic, key, value, (), partition=_PARTITION)
        except OperatorError:
            self._found.discard(topic)
            raise

    def _check(self, topic: str) -> None:
        """Find the topic. A producer would create it where brokers allow that, with their settings and not ours."""
        if topic in self._found:
            return
        with as_operator_error(f"topic {topic} cannot be found at {self._kafka.bootstrap_servers}"):
            found = AdminClient(client_properties.admin(self._kafka)).list_topics(timeout=_LIST_SECS).topics
        if topic not in found:
            raise OperatorError(
                f"topic {topic} does not exist, or may not be described by this user; "
                "`pushrail-stream topics create` creates missing topics"
            )
        self._found.add(topic)

    def _begin(self) -> None:
        if not self._is_reading:
            # `OFFSET_END` would be looked up later, when a request may have come already. States come again and again.
            self._consumer.assign([self._end_of(self._control), self._end_of(self._workers)])
            self._is_reading = True

    def _end_of(self, topic: str) -> TopicPartition:
        self._check(topic)
        with as_operator_error(f"topic {topic} cannot be read"):
            _, end = settled_bounds_of(self._consumer, topic, _PARTITION)
        return TopicPartition(topic, _PARTITION, end)

    def _read(self) -> list[bytes]:
        self._begin()
        while not self._closing.is_set():
            with as_operator_error(f"topics {self._control} and {self._workers} cannot be read"):
                messages = take_messages(self._consumer, _POLL_SECS, _BATCH, _BATCH_BYTES)
                for error in filter(None, (message.error() for message in messages)):
                    self._raise(error)
            read = [message for message in messages if message.error() is None]
            self._keep_states(message for message in read if message.topic() == self._workers)
            requests = [message.value() for message in read if message.topic() == self._control]
            if values := [value for value in requests if value is not None]:
                return values
        return []

    def _keep_states(self, messages: Iterable[Message]) -> None:
        now = time.monotonic()
        for message in messages:
            key, value = message.key() or b"", message.value()
            self._states.pop(key, None)
            if value is not None and len(key) + len(value) <= _MAX_STATE_BYTES:
                self._states[key] = (now, value)
        for key, (at, _) in list(self._states.items()):
            if now - at <= _KEPT_SECS and len(self._states) <= _MAX_STATES:
                break
            del self._states[key]

    def _raise(self, error: KafkaError) -> None:
        """Report an error that does not pass by itself. The next call begins at the end again."""
        if not error.retriable() and error.code() not in OUT_OF_REACH:
            self._is_reading = False
            raise KafkaException(error)


def ask_workers(kafka: KafkaSettings, topic: str, request: bytes) -> Iterator[list[bytes]]:
    """Write a request, and read what is written after it: batches of values, some of them empty, without end.

    Raises `OperatorError`.
    """
    with Scan(kafka, topic, starts={_PARTITION: _BEYOND}, only=[_PARTITION], follow=True) as scan:
        asyncio.run(_write_request(kafka, topic, request))
        for batch in scan:
            yield [record.value for record in batch if record.value is not None]


async def _write_request(kafka: KafkaSettings, topic: str, request: bytes) -> None:
    async with KafkaPublisher(kafka, client_properties.fleet_producer(kafka)) as producer:
        await producer.publish(topic, None, request, (), partition=_PARTITION)
