"""The producer: a thread that writes the numbered events at an even pace, through broker restarts and all."""

from __future__ import annotations

import threading
import time
from array import array
from functools import partial
from typing import Final, cast

from confluent_kafka import KafkaError, Message, Producer

from tests.chaos.clock import now
from tests.chaos.commits import Position
from tests.chaos.world import TOPICS, World

_TICK_SECS: Final = 0.02
_FLUSH_SECS: Final = 60.0


class Production(threading.Thread):
    """Writes all events within about ``secs``; idempotent, so that none is on the topic twice."""

    def __init__(self, bootstrap: str, world: World, secs: float) -> None:
        super().__init__(name="producer", daemon=True)
        self._world = world
        self._secs = secs
        self._stopping = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 20,
                "message.max.bytes": 8_000_000,
                "queue.buffering.max.messages": 1_000_000,
                "reconnect.backoff.max.ms": 1_000,
                "log_level": 0,
            }
        )
        self.produced_at = array("d", bytes(8 * world.events))
        """Epoch seconds at which each event was given to Kafka's client; 0 for not yet."""
        self.partitions = array("B", bytes(world.events))
        self.offsets = array("Q", bytes(8 * world.events))
        """The position of each acknowledged event."""
        self.acknowledged = 0
        self.problem: str | None = None

    def position(self, number: int) -> Position:
        """The position of an event."""
        return Position(TOPICS["events"], self.partitions[number], self.offsets[number])

    @property
    def done(self) -> bool:
        """Whether every event is on the topic."""
        return self.acknowledged == self._world.events

    def stop(self) -> None:
        """End early."""
        self._stopping.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """Thread's body."""
        try:
            self._produce()
        except Exception as error:  # noqa: BLE001 - told by the harness, not by a thread's dying words
            self.problem = f"producer: {type(error).__name__}: {error}"

    def _produce(self) -> None:
        started, number, events = time.monotonic(), 0, self._world.events
        while number < events and not self._stopping.is_set():
            due = min(events, int((time.monotonic() - started) / self._secs * events) + 1)
            for one in range(number, due):
                self._write(one)
            number = max(number, due)
            self._producer.poll(0)
            self._stopping.wait(_TICK_SECS)
        while len(self._producer) and not self._stopping.is_set():
            self._producer.flush(1)

    def _write(self, number: int) -> None:
        value, key = self._world.value(number), self._world.key(number)
        self.produced_at[number] = now()
        while not self._stopping.is_set():
            try:
                self._producer.produce(TOPICS["events"], value, key, on_delivery=partial(self._report, number))
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def _report(self, number: int, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.partitions[number] = cast("int", message.partition())
            self.offsets[number] = cast("int", message.offset())
            self.acknowledged += 1
        elif not self._stopping.is_set():
            self.problem = f"producer: an event was not acknowledged: {error.str()}"
