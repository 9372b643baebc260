"""The catch-up reader: one thread and one consumer without a group, which reads the events topic again for cursors.

It reads at most one turn ahead of what `CatchUp` has asked for, and nothing while no cursor can take more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final, final

from confluent_kafka import Consumer, KafkaError, KafkaException

from pushrail_stream.core.commit import was_recreated
from pushrail_stream.core.record import Partition, TopicIdentity
from pushrail_stream.core.signals import KafkaTrouble
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.errors import END_OF_PARTITION, UNREADABLE, as_operator_error, is_hopeless, refused_for_good
from pushrail_stream.kafka.loop_thread import LoopThread
from pushrail_stream.kafka.stretches import Stretches, StuckConsumerError
from pushrail_stream.kafka.topic_ids import TopicIdentities
from pushrail_stream.kafka.unreadable import end_of_unreadable
from pushrail_stream.pipeline.catch_up import CatchUp, Reading
from pushrail_stream.ports.pipeline import Observer
from pushrail_stream.settings.model import KafkaSettings

_IDLE_SECS: Final = 0.5
"""Seconds between two looks for work while there are cursors. A lane that may take more ends the wait at once."""
_KEPT_SECS: Final = 30.0
"""Seconds without work after which the client is closed. A lane asks for more many times a minute."""
_FETCH_BYTES: Final = 65_536
"""Compressed bytes fetched at once from each broker: about 500 events, because a new place throws the rest away."""


@final
class CatchUpReader:
    """Reads for cursors while `run` lasts."""

    def __init__(
        self, kafka: KafkaSettings, topic: str, catch_up: CatchUp, observe: Observer, identities: TopicIdentities
    ) -> None:
        self._kafka = kafka
        self._topic = topic
        self._catch_up = catch_up
        self._observe = observe
        self._identities = identities
        self._wake = threading.Event()
        self._thread = LoopThread("kafka-catch-up", self._wake.set)
        catch_up.woken = self._wake.set

    async def run(self) -> None:
        """Read until `stop`. Raises `OperatorError` when Kafka refuses us."""
        await self._thread.run(self._main)

    def stop(self) -> None:
        """Ask for the end."""
        self._thread.stop()

    # Everything below runs on the reader's thread.

    def _main(self) -> None:
        while not self._thread.stopping.is_set():
            if self._thread.ask(self._catch_up.plan):
                try:
                    self._read()
                except StuckConsumerError:
                    self._tell("the client that reads for cursors is stuck, and is replaced")
            else:
                self._wait(_IDLE_SECS if self._catch_up.has_cursors else None)

    def _wait(self, secs: float | None) -> None:
        self._wake.wait(secs)
        self._wake.clear()

    def _read(self) -> None:
        """Read with one client until no cursor has been behind for a while, or the topic was recreated."""
        topic = self._identities.known.get(self._topic)
        with as_operator_error("kafka.client"):
            consumer = Consumer(self._properties())
        stretches = Stretches(consumer)
        readings: Sequence[Reading] = ()
        used_at = time.monotonic()
        with consumer:
            while not self._thread.stopping.is_set() and not self._was_recreated(topic):
                topic = topic or self._identities.known.get(self._topic)
                plan = self._thread.ask(self._catch_up.accept, readings)
                if readings and all(plan.get(reading.partition) == reading.start for reading in readings):
                    self._wait(_IDLE_SECS)  # nothing was taken: the live reader has to learn of another log first
                readings = ()
                if plan:
                    readings = stretches.read(plan, self._identities.known, self._catch_up.logs)
                    for partition, offset, error in stretches.failed:
                        self._meet(partition, offset, error)
                    used_at = time.monotonic()
                elif time.monotonic() - used_at < _KEPT_SECS:
                    self._wait(_IDLE_SECS)
                else:
                    return

    def _properties(self) -> dict[str, object]:
        properties = {
            "fetch.wait.max.ms": 100,
            "fetch.queue.backoff.ms": 20,
            "queued.max.messages.kbytes": 2_048,
            **client_properties.fetch_sizes(self._kafka, _FETCH_BYTES),
        }
        return client_properties.reader(self._kafka, f"{self._kafka.group_id}.catch-up", properties)

    def _meet(self, partition: Partition, offset: int, error: KafkaError) -> None:
        """Tell an error that came instead of records, or pass a batch that cannot be read."""
        if is_hopeless(error):
            raise refused_for_good(error)
        if error.code() in UNREADABLE:
            self._step_over(partition, offset)
        elif error.code() != END_OF_PARTITION:
            self._tell(f"{partition}: {error.str()}" if partition.topic else error.str())

    def _step_over(self, partition: Partition, offset: int) -> None:
        """Pass a batch that cannot be read, once the live reader has passed it by an operator's order."""
        try:
            end = end_of_unreadable(self._kafka, partition, offset)
        except (KafkaException, OperatorError) as error:  # it does not answer, and is asked again
            self._tell(f"{partition}: {error.args[0].str() if isinstance(error, KafkaException) else error}")
            return
        self._thread.ask(self._catch_up.step_over, partition, offset, end)

    def _was_recreated(self, topic: TopicIdentity | None) -> bool:
        """Whether the client may remember leader epochs of an earlier topic, which brokers would refuse."""
        return was_recreated(topic, self._identities.known.get(self._topic))

    def _tell(self, trouble: str) -> None:
        self._thread.tell(self._observe, KafkaTrouble(trouble))
