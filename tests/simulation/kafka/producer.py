"""`SimProducer`, in place of confluent_kafka.Producer: idempotent, with or without transactions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message

from tests.simulation.kafka.broker import Batch, Place, TopicView
from tests.simulation.kafka.client import SimClient
from tests.simulation.kafka.network import Done
from tests.simulation.kafka.partition_log import ErrorCode, NewRecord
from tests.simulation.kafka.partitioner import partition_of
from tests.simulation.kafka.producer_transaction import ProducerTransaction
from tests.simulation.kafka.sender import RETRY_SECS, Limits, Sender, UnsentRecord
from tests.simulation.kafka.transactions import ProducerIdentity

_ANY: Final = -1
_CREATE_TIME: Final = 1
"""The type of timestamps that producers set."""
_SEARCH_SECS: Final = 1.0
"""Time between two questions for a topic that was missing (librdkafka's rd_kafka_topic_scan_all), in seconds."""
_RETRIES: Final = len(RETRY_SECS)


def _bytes(text: str | bytes | None) -> bytes | None:
    return text.encode() if isinstance(text, str) else text


class SimProducer(SimClient):
    """A producer. Records are sent in the background of its host; callbacks are made in `poll` and `flush`."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        super().__init__(properties)
        limits = Limits(
            int(self._number("batch.num.messages", 10_000)),
            int(self._number("batch.size", 1_000_000)),
            self._number("linger.ms", 5) / 1000,
            self._number("socket.timeout.ms", 60_000) / 1000,
        )
        self._sender = Sender(self._host, self, limits)
        self._queued = 0
        """Records without a report, or with one that has not been served."""
        self._queued_bytes = 0
        self._homeless: dict[str, list[UnsentRecord]] = {}
        """Records of topics whose partitions are not known yet."""
        self._exists_since: dict[str, float] = {}
        """Topics of which the client believes that they exist."""
        self._missing: set[str] = set()
        """Topics of which the client believes that they do not exist."""
        self._asked_at: dict[str, float] = {}
        """By topic the time of the last question for its metadata."""
        self._fatal: KafkaError | None = None
        name = properties.get("transactional.id")
        self._transaction = None if name is None else ProducerTransaction(self, self._sender, str(name))

    def __len__(self) -> int:
        return self._queued + len(self._events)

    # Records

    def produce(
        self,
        topic: str,
        value: str | bytes | None = None,
        key: str | bytes | None = None,
        partition: int = _ANY,
        on_delivery: Callable[[Any, Any], Any] | None = None,
        timestamp: int = 0,
        headers: Sequence[tuple[str, str | bytes | None]] | Mapping[str, str | bytes | None] | None = None,
    ) -> None:
        """Queue a record. Raises BufferError and KafkaException."""
        named = headers.items() if isinstance(headers, Mapping) else headers or ()
        pairs = tuple((name, _bytes(content)) for name, content in named)
        new = NewRecord(_bytes(key), _bytes(value), pairs, timestamp or time.time_ns() // 1_000_000)
        self._check_produce(new)
        callback = on_delivery or self._properties.get("on_delivery")
        expires_at = self.scheduler.now + self._timeout_secs()
        record = UnsentRecord((topic, partition), new, callback, expires_at)
        self._place(record)
        self._queued += 1
        self._queued_bytes += new.size

    def _check_produce(self, new: NewRecord) -> None:
        if self._fatal is not None:
            raise KafkaException(KafkaError(KafkaError._FATAL, f"Unable to produce message: {self._fatal.str()}"))
        if self._transaction is not None:
            self._transaction.check_produce()
        if new.size > self._number("message.max.bytes", 1_000_000):
            raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "Unable to produce message"))
        is_full = self._queued >= self._number("queue.buffering.max.messages", 100_000)
        if is_full or self._queued_bytes + new.size > 1024 * self._number("queue.buffering.max.kbytes", 1_048_576):
            raise BufferError("Local: Queue full")

    def _timeout_secs(self) -> float:
        named = self._properties.get("delivery.timeout.ms", self._properties.get("message.timeout.ms", 300_000))
        return float(named) / 1000

    def _place(self, record: UnsentRecord) -> None:
        """Give a record to the queue of its partition, or keep it until the topic's partitions are known."""
        topic, partition = record.place
        view = self._views.get(topic)
        refresh_secs = self._number("topic.metadata.refresh.interval.ms", 300_000) / 1000
        if topic in self._missing:
            self.refresh(topic, lambda: None)
            raise KafkaException(
                KafkaError(KafkaError._UNKNOWN_TOPIC, "Unable to produce message: Local: Unknown topic")
            )
        if view is None or isinstance(view, int):
            if topic not in self._homeless:
                self._homeless[topic] = []
                self._find_home(topic, 0)
            self._homeless[topic].append(record)
            return
        if self.scheduler.now - self._asked_at.get(topic, 0.0) >= refresh_secs:
            self.refresh(topic, lambda: None)
        count = len(view.leaders)
        if partition == _ANY:
            key = record.new.key
            partition = self.cluster.dice.randrange(count) if key is None else partition_of(key, count)
        elif partition >= count:
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION, "Unable to produce message"))
        record.place = (topic, partition)
        self._sender.add(record)

    def _find_home(self, topic: str, tries: int) -> None:
        begun = self.scheduler.now if tries == 0 else self._asked_at[topic]
        self.refresh(topic, partial(self._settle, topic, tries, begun))

    def _settle(self, topic: str, tries: int, begun: float) -> None:
        """Metadata of a topic has come, or could not be had."""
        view, now = self._views.get(topic), self.scheduler.now
        records = self._homeless.pop(topic, [])
        patience = self._number("topic.metadata.propagation.max.ms", 30_000) / 1000
        if view is not None and not isinstance(view, int):
            for record in records:
                self._place_late(record)
            return
        is_hopeless = view is not None and (view != KafkaError.UNKNOWN_TOPIC_OR_PART or now >= begun + patience)
        late = [record for record in records if is_hopeless or record.expires_at <= now]
        self.report(late, view if is_hopeless else KafkaError._MSG_TIMED_OUT)
        if is_hopeless and view == KafkaError.UNKNOWN_TOPIC_OR_PART:
            self._miss(topic)
        left = [record for record in records if record not in late]
        if left:
            self._homeless[topic] = left
            secs = RETRY_SECS[min(tries, _RETRIES - 1)]
            self._host.call_later(secs, self.refresh, topic, partial(self._settle, topic, tries + 1, begun))

    def _learn(self, views: Mapping[str, TopicView | ErrorCode]) -> None:
        """Believe that a topic has gone only some time after it was there for the first time, as librdkafka does."""
        now, patience = self.scheduler.now, self._number("topic.metadata.propagation.max.ms", 30_000) / 1000
        for name, view in views.items():
            if not isinstance(view, int):
                self._exists_since.setdefault(name, now)
                self._missing.discard(name)
            elif view == KafkaError.UNKNOWN_TOPIC_OR_PART and name in self._exists_since:
                if now < self._exists_since[name] + patience:
                    continue
                self._lose_topic(name)
            self._views[name] = view

    def _miss(self, topic: str) -> None:
        self._missing.add(topic)
        self._host.call_later(_SEARCH_SECS, self._search, topic)

    def _search(self, topic: str) -> None:
        if topic in self._missing:
            self.refresh(topic, lambda: None)
            self._host.call_later(_SEARCH_SECS, self._search, topic)

    def _lose_topic(self, topic: str) -> None:
        del self._exists_since[topic]
        self._miss(topic)
        waiting, _ = self._sender.take_all(in_flight=False, topic=topic)
        self.report([record for record in waiting if record.has_choice], KafkaError.UNKNOWN_TOPIC_OR_PART)
        self.report([record for record in waiting if not record.has_choice], KafkaError._UNKNOWN_PARTITION)

    def _place_late(self, record: UnsentRecord) -> None:
        try:
            self._place(record)
        except KafkaException as error:
            self.report([record], error.args[0].code())

    def poll(self, timeout: float = -1) -> int:
        """Wait for events up to ``timeout`` seconds and make their callbacks; their number."""
        if not self._events and timeout != 0:
            self._changed.wait(None if timeout < 0 else timeout)
        return self._serve_events()

    def flush(self, timeout: float = -1) -> int:
        """Wait until every record has its report, at most ``timeout`` seconds; the number of records without one.

        Raises SystemError when it meets a fatal error: the library calls back although an exception is set.
        """
        try:
            return self._flush(timeout)
        except KafkaException as error:
            raise SystemError("a callback returned a result with an exception set") from error

    def _flush(self, timeout: float) -> int:
        end = None if timeout < 0 else self.scheduler.now + timeout
        self._sender.flush()
        self._serve_events()
        while len(self) and (end is None or self.scheduler.now < end):
            self._changed.wait(None if end is None else end - self.scheduler.now)
            self._serve_events()
        self._sender.is_flushing = False
        return len(self)

    def purge(self, in_queue: bool = True, in_flight: bool = True, blocking: bool = True) -> None:  # noqa: FBT001, FBT002
        """Give records up: `poll` and `flush` report them."""
        del blocking
        if in_queue:
            for records in self._homeless.values():
                self.report(records, KafkaError._PURGE_QUEUE)
                records.clear()
        waiting, flying = self._sender.take_all(in_queue=in_queue, in_flight=in_flight)
        self.report(waiting, KafkaError._PURGE_QUEUE)
        self.report(flying, KafkaError._PURGE_INFLIGHT)

    # Transactions

    def init_transactions(self, timeout: float = -1) -> None:
        """As librdkafka's. Raises KafkaException."""
        self._transactional().init(timeout)

    def begin_transaction(self) -> None:
        """As librdkafka's. Raises KafkaException."""
        self._transactional().begin()

    def commit_transaction(self, timeout: float = -1) -> None:
        """As librdkafka's. Raises KafkaException."""
        self._transactional().commit(timeout)

    def abort_transaction(self, timeout: float = -1) -> None:
        """As librdkafka's. Raises KafkaException."""
        self._transactional().abort(timeout)

    def _transactional(self) -> ProducerTransaction:
        if self._transaction is None:
            raise KafkaException(KafkaError(KafkaError._NOT_CONFIGURED, "transactional.id is not configured"))
        return self._transaction

    # For the sender

    def leader(self, place: Place) -> int | None:
        """As `Client.leader`."""
        return self._leader(*place)

    def refresh(self, topic: str, done: Callable[[], None]) -> None:
        """As `Client.refresh`."""
        self._asked_at[topic] = self.scheduler.now
        self._refresh([topic], done)

    def produce_at(self, broker: int, place: Place, batch: Batch, done: Done, timeout: float) -> None:
        """As `Client.produce_at`."""
        batch = batch._replace(is_transactional=self._transaction is not None)
        self._send(broker, "Produce", lambda: self.cluster.brokers[broker].produce(*place, batch), done, timeout)

    def ask_identity(self, done: Done) -> None:
        """As `Client.ask_identity`."""
        if self._transaction is None:  # `init_transactions` asks for that of transactions
            self._send_to_any("InitProducerId", lambda _: self.cluster.transactions.new_producer(), done)

    def renewed(self, identity: ProducerIdentity) -> ProducerIdentity:
        """As `Client.renewed`."""
        if self._transaction is None:
            return identity[0], identity[1] + 1
        self._transaction.needs_identity = True
        return identity

    def may_write(self, place: Place, then: Callable[[], None]) -> bool:
        """As `Client.may_write`."""
        return self._transaction is None or self._transaction.covers(place, then)

    def report(self, records: Sequence[UnsentRecord], code: ErrorCode | None, base: int = -1) -> None:
        """As `Client.report`."""
        if not records:
            return
        if code is not None and self._transaction is not None:
            was_refused = code > 0 and code != KafkaError.UNKNOWN_TOPIC_OR_PART
            self._transaction.note_failure(code if was_refused else KafkaError._INCONSISTENT)
        records = list(records)
        wanted = [record for record in records if record.on_delivery is not None]
        if code is None and self._properties.get("delivery.report.only.error"):
            wanted = []
        if wanted:
            self._add_event(lambda: self._call_back(records, code, base))
        else:
            self._release(records)
            self._changed.notify_all()

    def _call_back(self, records: Sequence[UnsentRecord], code: ErrorCode | None, base: int) -> None:
        self._release(records)
        error = None if code is None else KafkaError(code)
        for index, record in enumerate(records):
            if record.on_delivery is not None:
                topic, partition = record.place
                new = record.new
                message = Message(
                    topic=topic,
                    partition=partition,
                    offset=-1001 if base < 0 else base + index,
                    key=new.key,
                    value=new.value,
                    error=error,
                    timestamp=(_CREATE_TIME, new.timestamp_ms),
                )
                record.on_delivery(error, message)

    def _release(self, records: Sequence[UnsentRecord]) -> None:
        self._queued -= len(records)
        self._queued_bytes -= sum(record.size for record in records)

    def fail(self, code: ErrorCode, reason: str) -> None:
        """As `Client.fail`: nothing is sent any more, and `poll` raises the error once."""
        if self._fatal is not None:
            return
        fatal = self._fatal = KafkaError(code, reason, fatal=True)
        self._sender.is_stopped = True

        def tell() -> None:
            raise KafkaException(fatal)

        self._add_event(tell)

    @property
    def fatal(self) -> KafkaError | None:
        """The error after which nothing is sent any more."""
        return self._fatal

    def _statistics(self) -> dict[str, Any]:
        return super()._statistics() | {"msg_cnt": self._queued}
