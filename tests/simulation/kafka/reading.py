"""The partitions that a consumer reads: fetches ahead of the application, and the queue of what they bring.

It follows librdkafka's rules, as its source and a real broker show them. A position has a number; each seek, pause or
resume makes a new one, and what was fetched for an older number is thrown away. One fetch of a partition waits at the
broker for an append: it is not repeated while nothing comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final, final

from confluent_kafka import OFFSET_INVALID, KafkaError

from tests.simulation.kafka.broker import FetchPlace, Place
from tests.simulation.kafka.known_topics import KnownTopics
from tests.simulation.kafka.partition_log import ErrorCode, Fetched
from tests.simulation.kafka.positions import NOWHERE, Chunk, Position, Positions, Reader, Reading, SendToLeader
from tests.simulation.scheduler import Host

_LONG_POLL_SECS: Final = 5.0
"""Longest wait of one fetch at the broker, in seconds. A withdrawn right is noticed after that."""
_NOT_LED: Final = frozenset[ErrorCode]({
    KafkaError.OFFSET_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.BROKER_NOT_AVAILABLE, KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.KAFKA_STORAGE_ERROR, KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_TOPIC_ID,
})  # fmt: skip
"""Errors of a fetch that librdkafka mends by itself, with newer metadata."""


@final
class Readers:
    """The assigned partitions of a consumer, and the queue of what they brought."""

    def __init__(
        self, host: Host, reading: Reading, topics: KnownTopics, send: SendToLeader, on_arrival: Callable[[], None]
    ) -> None:
        """``send``: sends a request to a broker. ``on_arrival``: called when the queue has something new."""
        self._host = host
        self._reading = reading
        self._topics = topics
        self._send = send
        self._on_arrival = on_arrival
        self.assigned: dict[Place, Reader] = {}
        self._paused: set[Place] = set()
        """A partition stays paused when it leaves and comes back."""
        self._positions = Positions(host, reading, topics, send, self)
        self.queue = deque[Chunk]()
        self._queued_bytes = 0
        self._lacks_room = False
        """Whether a fetch waits for room in the queue."""
        topics.on_epochs = self._check_epochs

    # Calls of the application.

    def add(self, place: Place, position: Position) -> None:
        """Begin to read a partition."""
        reader = self.assigned[place] = Reader(place)
        reader.is_paused = place in self._paused
        self._topics.follow([place[0]])
        self._positions.go_to(reader, position)

    def remove(self, places: Iterable[Place]) -> None:
        """Read these partitions no more."""
        for place in places:
            reader = self.assigned.pop(place, None)
            if reader is not None:
                self.begin_anew(reader)
                self._topics.forget_epochs(*place)

    def seek(self, reader: Reader, position: Position) -> None:
        """Go on there. An offset with a leader epoch is checked first."""
        self.begin_anew(reader)
        reader.taken = NOWHERE
        reader.is_checking = False
        if position.offset <= 0 or position.epoch < 0:
            self._positions.go_to(reader, position)
        else:
            reader.next = reader.begun = position
            reader.is_active = False
            self._positions.check(reader)

    def pause(self, place: Place) -> None:
        """Fetch no more, and throw away what was fetched."""
        reader = self.assigned.get(place)
        if reader is not None:
            self._paused.add(place)
            reader.is_paused = True
            self._rewind(reader)

    def resume(self, place: Place) -> None:
        """Undo `pause`."""
        self._paused.discard(place)
        reader = self.assigned.get(place)
        if reader is not None and reader.is_paused:
            reader.is_paused = False
            self.begin_anew(reader)
            self._continue(reader)

    def hold(self) -> None:
        """Hold all back while a rebalance waits for its callback."""
        for reader in self.assigned.values():
            if not reader.is_held:
                reader.is_held = True
                self._rewind(reader)

    def release(self) -> None:
        """Undo `hold`."""
        for reader in self.assigned.values():
            if reader.is_held:
                reader.is_held = False
                self.begin_anew(reader)
                self._continue(reader)

    def _rewind(self, reader: Reader) -> None:
        self.begin_anew(reader)
        if reader.taken.offset != OFFSET_INVALID:
            reader.next = reader.taken
        elif reader.is_active:
            reader.next = reader.begun

    def _continue(self, reader: Reader) -> None:
        """Go on. An answer for the former number of the position is not taken, so it is asked for again."""
        if reader.is_active:
            self.fetch(reader)
        elif reader.is_checking:
            self._positions.check(reader)
        elif not reader.has_failed:
            self._positions.go_to(reader, reader.next)

    def begin_anew(self, reader: Reader) -> None:
        """Throw away what was fetched ahead. The fetch on its way has to end before another one can begin."""
        reader.number += 1
        if any(chunk.reader is reader for chunk in self.queue):
            self._queued_bytes -= sum(chunk.size for chunk in self.queue if chunk.reader is reader)
            self.queue = deque(chunk for chunk in self.queue if chunk.reader is not reader)
        if reader.is_fetching:
            reader.fetch_number += 1
            self._host.call_later(self._reading.wait_secs / 2, self._end_fetch, reader, reader.fetch_number)

    def _end_fetch(self, reader: Reader, fetch_number: int) -> None:
        if reader.fetch_number == fetch_number:
            reader.is_fetching = False
            self.fetch(reader)

    def _check_epochs(self, topic: str, partitions: list[int]) -> None:
        """Leaders were elected since: what is after the position may not be what was there."""
        for number in partitions:
            reader = self.assigned.get((topic, number))
            if reader is not None and (reader.is_active or reader.is_checking):
                self._positions.check(reader)

    # Fetches.

    def fetch(self, reader: Reader) -> None:
        """Fetch more of a partition, if that is possible now."""
        if (
            not reader.is_active
            or reader.is_fetching
            or reader.is_backing_off
            or reader.is_paused
            or reader.is_held
            or self.assigned.get(reader.place) is not reader
        ):
            return
        if self._queued_bytes >= self._reading.queue_bytes:
            self._lacks_room = True
            return
        topic, partition = reader.place
        leader = self._topics.leader(topic, partition)
        if leader is None:
            self._topics.ask()
            self._back_off(reader, self._reading.error_backoff_secs)
            return
        known = self._topics[topic]
        reader.is_fetching = True
        reader.fetch_number += 1
        fetch_number, start = reader.fetch_number, reader.next
        place = FetchPlace(start.offset, known.epochs.get(partition, -1), known.id)
        tells_end_soon = self._reading.tells_end and reader.told_end != start.offset
        wait_secs = self._reading.wait_secs if tells_end_soon else _LONG_POLL_SECS

        def take(answer: Mapping[Place, Fetched] | ErrorCode) -> None:
            if self.assigned.get(reader.place) is reader and fetch_number == reader.fetch_number:
                self._take(reader, answer)

        self._send(
            leader,
            "Fetch",
            lambda broker: broker.fetch(
                {reader.place: place},
                committed_only=self._reading.committed_only,
                max_wait=wait_secs,
                max_bytes=self._reading.fetch_bytes,
            ),
            take,
        )

    def _take(self, reader: Reader, answer: Mapping[Place, Fetched] | ErrorCode) -> None:
        reader.is_fetching = False
        if isinstance(answer, int):
            self._take_error(reader, answer)
            return
        fetched = answer[reader.place]
        reader.first, reader.end = fetched.first, fetched.high_watermark
        if fetched.error is not None:
            self._take_error(reader, fetched.error)
        else:
            reader.last_error = None
            self._take_records(reader, fetched)

    def _take_records(self, reader: Reader, fetched: Fetched) -> None:
        start = reader.next
        if fetched.next_offset > start.offset:
            epoch = fetched.epoch if fetched.epoch >= 0 else start.epoch
            reader.next = Position(fetched.next_offset, epoch)
            size = sum(record.size for record in fetched.records)
            self._queued_bytes += size
            self.queue.append(Chunk(reader, fetched.records, reader.next, size))
            self._on_arrival()
        if fetched.unreadable is not None:
            code = fetched.unreadable.unreadable or KafkaError._BAD_MSG
            text = f"Fetch failed: {KafkaError(code).str()}"
            self.add_error(reader, code, fetched.unreadable.offset, text)
            self._back_off(reader, self._reading.error_backoff_secs)
            return
        self._tell_end(reader, fetched)
        self.fetch(reader)

    def _tell_end(self, reader: Reader, fetched: Fetched) -> None:
        end = fetched.last_stable if self._reading.committed_only else fetched.high_watermark
        is_empty = not fetched.records and fetched.unreadable is None
        if self._reading.tells_end and is_empty and end == reader.next.offset != reader.told_end:
            reader.told_end = end
            self.add_error(reader, KafkaError._PARTITION_EOF, end, "Fetch reached end of partition")

    def _take_error(self, reader: Reader, error: ErrorCode) -> None:
        if error == KafkaError.OFFSET_OUT_OF_RANGE:
            why = "fetch failed due to requested offset not available on the broker"
            self._positions.reset(reader, reader.next, error, why)
            return
        backoff_secs = self._reading.error_backoff_secs
        if error in _NOT_LED or error == KafkaError._TRANSPORT:
            self._topics.ask()
        elif error == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            backoff_secs = max(1.0, 10 * backoff_secs)
            if reader.last_error != error:
                reader.last_error = error
                self.add_error(reader, error, reader.next.offset, f"Fetch failed: {KafkaError(error).str()}")
        elif error not in {KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT}:
            self.add_error(reader, error, reader.next.offset, f"Fetch failed: {KafkaError(error).str()}")
        self._back_off(reader, backoff_secs)

    def _back_off(self, reader: Reader, secs: float) -> None:
        reader.is_backing_off = True
        self._host.call_later(secs, self._end_backoff, reader)

    def _end_backoff(self, reader: Reader) -> None:
        reader.is_backing_off = False
        self.fetch(reader)

    # The queue.

    def add_error(self, reader: Reader, code: ErrorCode, offset: int, text: str) -> None:
        """Bring an error to the application in place of the records that are next."""
        chunk = Chunk(reader, (), reader.next, 0)
        chunk.error = (code, offset, text)
        self.queue.append(chunk)
        self._on_arrival()

    def drop(self, chunk: Chunk) -> None:
        """The first chunk of the queue was taken, or is of no use any more."""
        self.queue.popleft()
        self._queued_bytes -= chunk.size
        if self._lacks_room and self._queued_bytes < self._reading.queue_bytes:
            self._lacks_room = False
            self._host.call_later(self._reading.queue_backoff_secs, self._fetch_all)

    def _fetch_all(self) -> None:
        for reader in list(self.assigned.values()):
            self.fetch(reader)
