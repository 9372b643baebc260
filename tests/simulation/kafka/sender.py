"""The part of a producer that works in the background: its queues, batches, repeated requests and time-outs.

Each partition has at most one request on its way, so records keep their order. A request without an answer is repeated
with the same sequence number, and the broker does not write it twice. When a batch is given up, the producer's epoch
and its sequence numbers begin anew, as librdkafka's do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, final

from confluent_kafka import KafkaError

from tests.simulation.kafka.broker import Batch, Place, Produced
from tests.simulation.kafka.network import Done
from tests.simulation.kafka.partition_log import ErrorCode, NewRecord
from tests.simulation.kafka.transactions import ProducerIdentity
from tests.simulation.scheduler import Host, Timer

RETRY_SECS: Final = (0.1, 0.2, 0.4, 0.8, 1.0)
"""Pauses before a request is repeated: librdkafka's ``retry.backoff.ms``, doubled up to ``retry.backoff.max.ms``."""
_REFRESH: Final = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
    }
)
"""Errors after which the leader is looked up again, and the request repeated."""
_REPEAT: Final = _REFRESH | {
    KafkaError._TIMED_OUT,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.THROTTLING_QUOTA_EXCEEDED,
}
"""Errors after which the request is repeated."""
_LEAST_WAIT_SECS: Final = 0.1
"""Least time for an answer, also to a record whose time is over, in seconds (librdkafka's rd_kafka_ProduceRequest)."""


@final
class UnsentRecord:
    """A record on its way to Kafka."""

    __slots__ = ("expires_at", "has_choice", "new", "on_delivery", "place", "size")

    def __init__(
        self, place: Place, new: NewRecord, on_delivery: Callable[[Any, Any], Any] | None, expires_at: float
    ) -> None:
        self.place = place
        self.has_choice = place[1] < 0
        """Whether its key chose the partition."""
        self.new = new
        self.on_delivery = on_delivery
        self.expires_at = expires_at
        self.size = new.size


class Client(Protocol):
    """The producer, as its sender uses it."""

    def leader(self, place: Place) -> int | None: ...

    def refresh(self, topic: str, done: Callable[[], None]) -> None: ...

    def produce_at(self, broker: int, place: Place, batch: Batch, done: Done, timeout: float) -> None: ...

    def ask_identity(self, done: Done) -> None: ...

    def renewed(self, identity: ProducerIdentity) -> ProducerIdentity:
        """The identity with which sequence numbers begin anew."""

    def may_write(self, place: Place, then: Callable[[], None]) -> bool:
        """Whether the open transaction covers the partition; if not, it will, and ``then`` is called."""

    def report(self, records: Sequence[UnsentRecord], code: ErrorCode | None, base: int = -1) -> None: ...

    def fail(self, code: ErrorCode, reason: str) -> None: ...


class _Queue:
    """The records for one partition."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.waiting: deque[UnsentRecord] = deque()
        self.repeated: list[UnsentRecord] = []
        """The batch that must be sent again as it was, before any other."""
        self.in_flight: list[UnsentRecord] = []
        self.request = 0
        """Number of the newest request. Answers to others are ignored."""
        self.next_sequence = 0
        self.failures = 0
        """Failed requests since the last success."""
        self.is_pausing = False
        self.linger_until = 0.0
        self.expiry: Timer | None = None

    def oldest(self) -> UnsentRecord | None:
        """The record that comes next."""
        return self.repeated[0] if self.repeated else self.waiting[0] if self.waiting else None


class Limits:
    """The properties of a producer that a sender obeys."""

    def __init__(self, batch_records: int, batch_bytes: int, linger_secs: float, socket_secs: float) -> None:
        self.batch_records = batch_records
        self.batch_bytes = batch_bytes
        self.linger_secs = linger_secs
        self.socket_secs = socket_secs


@final
class Sender:
    """Sends records in batches, and reports each once."""

    def __init__(self, host: Host, client: Client, limits: Limits) -> None:
        self._host = host
        self._client = client
        self._limits = limits
        self._queues: dict[Place, _Queue] = {}
        self.identity: ProducerIdentity | None = None
        self.is_flushing = False
        self.is_stopped = False
        """Whether a fatal error has happened: nothing is sent any more."""
        self._is_asking = False
        self._is_renewing = False
        """Whether a new epoch begins once nothing is on its way."""

    def add(self, record: UnsentRecord) -> None:
        """Send a record in due time."""
        queue = self._queues.get(record.place)
        if queue is None:
            queue = self._queues[record.place] = _Queue(record.place)
        queue.waiting.append(record)
        self._pump(queue)

    def flush(self) -> None:
        """Send all that waits for further records of its batch."""
        self.is_flushing = True
        self.pump_all()

    def pump_all(self) -> None:
        """Go on where nothing is in the way any more."""
        for queue in list(self._queues.values()):
            self._pump(queue)

    def take_all(
        self, *, in_queue: bool = True, in_flight: bool = True, topic: str | None = None
    ) -> tuple[list[UnsentRecord], list[UnsentRecord]]:
        """Give up records, of one topic or of all: those that wait, and those on their way. They are not reported."""
        waiting: list[UnsentRecord] = []
        flying: list[UnsentRecord] = []
        for queue in self._queues.values():
            if topic not in {None, queue.place[0]}:
                continue
            if in_queue:
                waiting += [*queue.repeated, *queue.waiting]
                self._is_renewing |= bool(queue.repeated)
                queue.repeated = []
                queue.waiting.clear()
            if in_flight and queue.in_flight:
                flying += queue.in_flight
                queue.in_flight = []
                queue.request += 1
                self._is_renewing = True
        self._renew_if_idle()
        return waiting, flying

    def restart(self, identity: ProducerIdentity | None) -> None:
        """Begin with this identity, and with the first sequence number everywhere."""
        self.identity = identity
        for queue in self._queues.values():
            queue.next_sequence = 0
        self.pump_all()

    # One partition

    def _pump(self, queue: _Queue) -> None:
        """Send the next batch, unless something is in the way; then that calls this again."""
        if queue.in_flight or queue.is_pausing or self._is_renewing or queue.oldest() is None:
            return
        self._expire(queue)
        self._watch(queue)
        if queue.in_flight or queue.oldest() is None or self.is_stopped:
            return
        if self._lingers(queue) or not self._has_identity():
            return
        if not self._client.may_write(queue.place, lambda: self._pump(queue)):
            return
        leader = self._client.leader(queue.place)
        if leader is None:
            self._pause(queue, is_refreshing=True)
        else:
            self._send(queue, leader)

    def _lingers(self, queue: _Queue) -> bool:
        """Whether the batch waits for further records."""
        full = len(queue.waiting) >= self._limits.batch_records
        if queue.repeated or self.is_flushing or full or not self._limits.linger_secs:
            return False
        now = self._host.scheduler.now
        if queue.linger_until <= 0:
            queue.linger_until = now + self._limits.linger_secs
            self._host.call_later(self._limits.linger_secs, self._pump, queue)
        return now < queue.linger_until

    def _has_identity(self) -> bool:
        if self.identity is None and not self._is_asking:
            self._is_asking = True
            self._client.ask_identity(self._learn_identity)
        return self.identity is not None

    def _learn_identity(self, answer: Any) -> None:
        self._is_asking = False
        if isinstance(answer, int):
            self._host.call_later(RETRY_SECS[-1], self.pump_all)
        else:
            self.restart(answer)

    def _send(self, queue: _Queue, leader: int) -> None:
        assert self.identity is not None
        queue.in_flight = queue.repeated or list(self._take_batch(queue))
        queue.repeated = []
        queue.linger_until = 0.0
        queue.request += 1
        request = queue.request
        left = queue.in_flight[0].expires_at - self._host.scheduler.now
        batch = Batch([record.new for record in queue.in_flight], self.identity, queue.next_sequence)
        self._client.produce_at(
            leader,
            queue.place,
            batch,
            lambda answer: self._handle(queue, answer) if request == queue.request else None,
            max(_LEAST_WAIT_SECS, min(left, self._limits.socket_secs)),
        )

    def _take_batch(self, queue: _Queue) -> Iterator[UnsentRecord]:
        count = size = 0
        while queue.waiting and count < self._limits.batch_records:
            size += queue.waiting[0].size
            if count and size > self._limits.batch_bytes:
                return
            count += 1
            yield queue.waiting.popleft()

    def _handle(self, queue: _Queue, answer: Produced | ErrorCode) -> None:
        code = answer if isinstance(answer, int) else answer.error
        if code is None or code == KafkaError.DUPLICATE_SEQUENCE_NUMBER:
            records, queue.in_flight = queue.in_flight, []
            queue.next_sequence += len(records)
            queue.failures = 0
            self._client.report(records, None, -1 if isinstance(answer, int) else answer.base)
        elif code in _REPEAT:
            queue.repeated, queue.in_flight = queue.in_flight, []
            self._pause(queue, is_refreshing=code in _REFRESH)
        else:
            self._give_up(queue, code)
        self._renew_if_idle()
        self._pump(queue)

    def _give_up(self, queue: _Queue, code: ErrorCode) -> None:
        records, queue.in_flight = queue.in_flight, []
        if code == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER:
            topic, partition = queue.place
            self._client.fail(
                code,
                f"ProduceRequest for {topic} [{partition}] with {len(records)} message(s) failed due to sequence "
                "desynchronization with the broker",
            )
        self._client.report(records, code)
        self._is_renewing = True

    def _renew_if_idle(self) -> None:
        """Begin a new epoch once no request is on its way."""
        if self._is_renewing and not any(queue.in_flight for queue in self._queues.values()):
            self._is_renewing = False
            for queue in self._queues.values():
                queue.waiting.extendleft(reversed(queue.repeated))
                queue.repeated = []
            self.restart(None if self.identity is None else self._client.renewed(self.identity))

    def _pause(self, queue: _Queue, *, is_refreshing: bool) -> None:
        """Go on after a moment, and after the leader was looked up."""
        queue.is_pausing = True
        secs = RETRY_SECS[min(queue.failures, len(RETRY_SECS) - 1)]
        queue.failures += 1

        def go_on() -> None:
            queue.is_pausing = False
            self._pump(queue)

        def ask() -> None:
            self._client.refresh(queue.place[0], go_on)

        self._host.call_later(secs, ask if is_refreshing else go_on)
        self._watch(queue)

    def _expire(self, queue: _Queue) -> None:
        """Report the records whose time is over."""
        now = self._host.scheduler.now
        late = [record for record in queue.repeated if record.expires_at <= now]
        if late:
            left = [record for record in queue.repeated if record.expires_at > now]
            queue.repeated = []
            queue.waiting.extendleft(reversed(left))
            self._is_renewing = True  # the batch may have been written, so its numbers are used up
        while queue.waiting and queue.waiting[0].expires_at <= now:
            late.append(queue.waiting.popleft())
        if late:
            self._client.report(late, KafkaError._MSG_TIMED_OUT)
            self._renew_if_idle()

    def _watch(self, queue: _Queue) -> None:
        """Look again when the time of the next record is over, if it is still here then."""
        oldest = queue.oldest()
        if queue.expiry is None and oldest is not None and (queue.is_pausing or self.identity is None):
            secs = max(0.0, oldest.expires_at - self._host.scheduler.now)
            queue.expiry = self._host.call_later(secs, self._look_again, queue)

    def _look_again(self, queue: _Queue) -> None:
        queue.expiry = None
        if not queue.in_flight:
            self._expire(queue)
            self._watch(queue)
