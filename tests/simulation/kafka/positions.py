"""The positions of a consumer: seeks, resets, and checks for truncation, by librdkafka's rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol, final

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID, KafkaError

from tests.simulation.kafka.broker import EARLIEST, LATEST, Broker, Place
from tests.simulation.kafka.known_topics import KnownTopics
from tests.simulation.kafka.partition_log import ErrorCode, LogRecord
from tests.simulation.scheduler import Host

_RETRY_SECS: Final = 0.5
"""librdkafka's time between two tries of an offset look-up or a check for truncation, in seconds."""


class Position(NamedTuple):
    """An offset with the leader epoch of the record before it."""

    offset: int
    epoch: int = -1


NOWHERE: Final = Position(OFFSET_INVALID)


class Reading(NamedTuple):
    """The properties of a consumer that matter here."""

    committed_only: bool
    reset: str
    """``earliest``, ``latest`` or ``error``."""
    queue_bytes: int
    fetch_bytes: int
    wait_secs: float
    error_backoff_secs: float
    queue_backoff_secs: float
    tells_end: bool


@final
class Reader:
    """One assigned partition."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.number = 0
        """The number of the position."""
        self.next = NOWHERE
        """The position of the next fetch; it may be logical."""
        self.begun = NOWHERE
        """The position at which fetching began since the last seek."""
        self.taken = NOWHERE
        """Behind the last record that the application got since the last seek."""
        self.first = OFFSET_INVALID
        self.end = OFFSET_INVALID
        self.fetch_number = 0
        """The number of the newest fetch."""
        self.is_fetching = False
        self.is_active = False
        """Whether ``next`` is an offset to fetch at."""
        self.is_checking = False
        """Whether an answer about truncation is awaited."""
        self.is_paused = False
        self.is_held = False
        """Paused by the library, during a rebalance."""
        self.is_backing_off = False
        self.has_failed = False
        """Whether the policy is to give up, and has been followed: only a new assignment mends that."""
        self.told_end = OFFSET_INVALID
        self.last_error: ErrorCode | None = None


@final
class Chunk:
    """The result of one fetch: records, then perhaps markers; or an error in their place."""

    __slots__ = ("at", "end", "error", "reader", "records", "size")

    def __init__(self, reader: Reader, records: Sequence[LogRecord], end: Position, size: int) -> None:
        self.reader = reader
        self.records = records
        self.at = 0
        """Index of the next record."""
        self.end = end
        self.size = size
        self.error: tuple[ErrorCode, int, str] | None = None
        """Code, offset and text."""


SendToLeader = Callable[[int, str, Callable[[Broker], Any], Callable[[Any], None]], None]


class Fetching(Protocol):
    """Fetches and their queue; `Readers` in the consumer."""

    def fetch(self, reader: Reader) -> None: ...

    def begin_anew(self, reader: Reader) -> None: ...

    def add_error(self, reader: Reader, code: ErrorCode, offset: int, text: str) -> None: ...


@final
class Positions:
    """Decides where each partition's next fetch begins."""

    def __init__(
        self, host: Host, reading: Reading, topics: KnownTopics, send: SendToLeader, fetching: Fetching
    ) -> None:
        self._host = host
        self._reading = reading
        self._topics = topics
        self._send = send
        self._fetching = fetching

    def go_to(self, reader: Reader, position: Position) -> None:
        """Fetch there next; a logical offset is looked up first."""
        reader.next = reader.begun = position
        reader.told_end = OFFSET_INVALID
        if position.offset >= 0:
            reader.is_active = True
            self._fetching.fetch(reader)
        elif position.offset == OFFSET_INVALID:
            self.reset(reader, position, KafkaError._NO_OFFSET, "no previously committed offset available")
        else:
            self._look_up(reader, position.offset)

    def reset(self, reader: Reader, at: Position, error: ErrorCode, why: str) -> None:
        """The position is of no use: follow the policy."""
        reader.is_active = False
        policy = self._reading.reset
        if policy == "error":
            reader.has_failed = True
            text = f"{why}: {KafkaError(error).str()}"
            self._fetching.add_error(reader, KafkaError._AUTO_OFFSET_RESET, at.offset, text)
        else:
            self._look_up(reader, OFFSET_BEGINNING if policy == "earliest" else OFFSET_END)

    def _look_up(self, reader: Reader, logical: int) -> None:
        reader.is_active = False
        if logical == OFFSET_BEGINNING and reader.first >= 0:
            self.go_to(reader, Position(reader.first))
            return
        reader.next = Position(logical)
        number, (topic, partition) = reader.number, reader.place
        at_ms = EARLIEST if logical == OFFSET_BEGINNING else LATEST

        def take(answer: tuple[int, int] | ErrorCode) -> None:
            if number != reader.number or reader.is_active:
                return
            if isinstance(answer, tuple):
                self.go_to(reader, Position(*answer))
            elif answer == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                self._fetching.add_error(
                    reader, answer, logical, f"Failed to query logical offset: {KafkaError(answer).str()}"
                )
                self._later(reader, self._look_up, logical)
            else:
                self._topics.ask()
                self._later(reader, self._look_up, logical)

        leader = self._topics.leader(*reader.place)
        if leader is None:
            self._topics.ask()
            self._later(reader, self._look_up, logical)
            return
        self._send(
            leader,
            "ListOffsets",
            lambda broker: broker.list_offset(topic, partition, at_ms, committed_only=self._reading.committed_only),
            take,
        )

    def _later(self, reader: Reader, function: Callable[..., None], *args: Any) -> None:
        number = reader.number
        self._host.call_later(_RETRY_SECS, lambda: function(reader, *args) if number == reader.number else None)

    def check(self, reader: Reader) -> None:
        """Ask the leader where the epoch of the position ended."""
        position = reader.next
        if position.epoch < 0:
            reader.is_checking = False
            self.go_to(reader, position)
            return
        reader.is_active, reader.is_checking = False, True
        leader = self._topics.leader(*reader.place)
        if leader is None:
            self._topics.ask()
            self._later(reader, self.check)
            return
        number, (topic, partition) = reader.number, reader.place
        current = self._topics[topic].epochs.get(partition, -1)

        def take(answer: tuple[int, int] | ErrorCode) -> None:
            if number == reader.number and reader.is_checking:
                self._take_end_of_epoch(reader, position, answer)

        self._send(
            leader,
            "OffsetForLeaderEpoch",
            lambda broker: broker.end_of_epoch(topic, partition, position.epoch, current),
            take,
        )

    def _take_end_of_epoch(self, reader: Reader, position: Position, answer: tuple[int, int] | ErrorCode) -> None:
        if not isinstance(answer, tuple):
            self._topics.ask()
            self._later(reader, self.check)
            return
        reader.is_checking = False
        epoch, end = answer
        if end < 0 or epoch < 0:
            self.reset(
                reader,
                position,
                int(KafkaError._LOG_TRUNCATION),
                f"No epoch found less or equal to offset {position.offset}",
            )
        elif end >= position.offset:
            reader.is_active = True
            self._fetching.fetch(reader)
        elif self._reading.reset == "error":
            self.reset(
                reader,
                NOWHERE,
                int(KafkaError._LOG_TRUNCATION),
                f"Partition log truncation detected at {position.offset}",
            )
        else:
            reader.taken = NOWHERE
            self._fetching.begin_anew(reader)
            self.go_to(reader, Position(end, epoch))
