"""The transactions of one producer, as its process sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, final

from confluent_kafka import KafkaError, KafkaException

from tests.simulation.kafka.broker import Place
from tests.simulation.kafka.network import Coordinator, Done
from tests.simulation.kafka.partition_log import ErrorCode
from tests.simulation.kafka.sender import RETRY_SECS, Sender

if TYPE_CHECKING:
    from tests.simulation.kafka.producer import SimProducer

_AGAIN: Final = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.CONCURRENT_TRANSACTIONS,
        KafkaError.REQUEST_TIMED_OUT,
    }
)
"""Errors after which the request is repeated."""
_FENCED: Final = frozenset(
    {KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.INVALID_PRODUCER_ID_MAPPING}
)
_FENCED_REASON: Final = KafkaError(KafkaError._FENCED).str()
State = Literal["new", "ready", "open", "failed"]
"""Of a transaction that is open and must be aborted: failed."""


@final
class ProducerTransaction:
    """Talks to the coordinator of a transactional id."""

    def __init__(self, producer: SimProducer, sender: Sender, name: str) -> None:
        self._producer = producer
        self._sender = sender
        self._name = name
        self._coordinator = Coordinator(f"transaction {name}")
        self._state: State = "new"
        self._failure: KafkaError | None = None
        self._covered: dict[Place, bool] = {}
        """The partitions of the open transaction, and whether the coordinator knows them."""
        self._is_committing = False
        """Whether a commit has begun, whose result is not known."""
        self.needs_identity = False
        """Whether records were given up, so that the next transaction needs another epoch."""

    def check_produce(self) -> None:
        """Raise unless a record may be produced now."""
        if self._state != "open":
            raise KafkaException(KafkaError(KafkaError._STATE, "Unable to produce message: Local: Erroneous state"))

    def init(self, timeout: float) -> None:
        """Get an identity, which shuts out the producer before."""
        self._renew_identity(self._end_of(timeout))
        self._state = "ready"

    def _renew_identity(self, end: float) -> None:
        timeout_secs = self._producer._number("transaction.timeout.ms", 60_000) / 1000
        transactions = self._producer.cluster.transactions
        identity = self._repeat("InitProducerId", lambda: transactions.init_producer(self._name, timeout_secs), end)
        self.needs_identity = False
        self._sender.restart(identity)

    def begin(self) -> None:
        """Begin a transaction. The coordinator hears of it with the first record."""
        self._check_state("ready")
        self._state = "open"

    def _check_state(self, *allowed: State) -> None:
        self._raise_fatal()
        if self._state not in allowed:
            raise KafkaException(KafkaError(KafkaError._STATE, f"Operation not valid in state {self._state}"))

    def covers(self, place: Place, then: Callable[[], None]) -> bool:
        """As `Client.may_write`."""
        if self._state != "open":
            return False
        if self._covered.get(place):
            return True
        if place not in self._covered:
            self._covered[place] = False
            self._add(place, then, 0)
        return False

    def _add(self, place: Place, then: Callable[[], None], tries: int) -> None:
        producer = self._producer
        topic = producer.cluster.topic(place[0])
        identity = self._sender.identity
        if topic is None or identity is None or place[1] >= len(topic.partitions):
            self.note_failure(KafkaError.UNKNOWN_TOPIC_OR_PART)
            return

        def note(answer: Any) -> None:
            if place not in self._covered:
                return  # the transaction was aborted meanwhile
            if answer == "yes":
                self._covered[place] = True
                then()
            elif answer in _AGAIN:
                secs = RETRY_SECS[min(tries, len(RETRY_SECS) - 1)]
                producer._host.call_later(secs, self._add, place, then, tries + 1)
            else:
                self.note_failure(answer)

        transactions = producer.cluster.transactions
        self._send("AddPartitionsToTxn", lambda: transactions.add_partition(self._name, identity, place), note)

    def note_failure(self, code: ErrorCode) -> None:
        """A record could not be written: the transaction must be aborted, or there is a newer producer."""
        if code in _FENCED:
            self._producer.fail(KafkaError._FENCED, _FENCED_REASON)
        elif self._state == "open":
            self._state = "failed"
            reason = f"{KafkaError(code).str()}: current transaction must be aborted"
            self._failure = KafkaError(code, reason, txn_requires_abort=True)
        self._producer._changed.notify_all()

    def commit(self, timeout: float) -> None:
        """Write what is queued, and commit."""
        self._check_state("open", "failed")
        self._is_committing = True
        end = self._end_of(timeout)
        self._sender.flush()
        while self._producer._queued and self._state == "open" and self._producer.fatal is None:
            if self._producer.scheduler.now >= end:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "not all records were written", retriable=True))
            self._producer._changed.wait(end - self._producer.scheduler.now)
            self._producer._serve_events()
        self._sender.is_flushing = False
        self._raise_fatal()
        if self._state == "failed":
            self._is_committing = False
            raise KafkaException(self._failure)
        self._finish(end, is_committed=True)
        self._is_committing = False

    def abort(self, timeout: float) -> None:
        """Drop what is queued, and abort."""
        self._check_state("open", "failed")
        if self._is_committing:
            reason = "Conflicting commit_transaction API call is already in progress"
            raise KafkaException(KafkaError(KafkaError._CONFLICT, reason, retriable=True))
        self._producer.purge()
        self._producer._serve_events()
        self._finish(self._end_of(timeout), is_committed=False)

    def _finish(self, end: float, *, is_committed: bool) -> None:
        identity, transactions = self._sender.identity, self._producer.cluster.transactions
        if self._covered and identity is not None:
            self._repeat("EndTxn", lambda: transactions.end(self._name, identity, is_committed=is_committed), end)
        self._covered.clear()
        if self.needs_identity:
            self._renew_identity(end)
        self._state, self._failure = "ready", None

    # Requests

    def _repeat(self, api: str, handle: Callable[[], Any], end: float) -> Any:
        """Ask until there is an answer. Raises KafkaException."""
        producer, tries = self._producer, 0
        while True:
            answers: list[Any] = []

            def note(answer: Any, answers: list[Any] = answers) -> None:
                answers.append(answer)
                producer._changed.notify_all()

            self._send(api, handle, note)
            while not answers and producer.scheduler.now < end:
                producer._changed.wait(end - producer.scheduler.now)
            if not answers:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{api} was not answered", retriable=True))
            answer = answers[0]
            if not isinstance(answer, int):
                return answer
            self._raise_refusal(api, answer)
            producer._pause(min(end, producer.scheduler.now + RETRY_SECS[min(tries, len(RETRY_SECS) - 1)]))
            tries += 1

    def _raise_refusal(self, api: str, code: ErrorCode) -> None:
        if code in _FENCED:
            self._producer.fail(KafkaError._FENCED, f"{api}: {_FENCED_REASON}")
        self._raise_fatal()
        if code not in _AGAIN:
            raise KafkaException(KafkaError(code, f"{api} failed: {KafkaError(code).str()}", txn_requires_abort=True))

    def _send(self, api: str, handle: Callable[[], Any], done: Done) -> None:
        def ask() -> Any:
            answer = handle()
            return "yes" if answer is None else answer  # brokers answer None where there is nothing to tell

        self._producer._send(self._coordinator, api, ask, done)

    def _raise_fatal(self) -> None:
        if self._producer.fatal is not None:
            raise KafkaException(self._producer.fatal)

    def _end_of(self, timeout: float) -> float:
        return self._producer.scheduler.now + timeout if timeout >= 0 else float("inf")
