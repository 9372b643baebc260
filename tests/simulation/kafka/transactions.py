"""The broker's side of producer ids and transactions: who may write with which epoch, and where a transaction wrote.

The coordinator knows partitions by name, as Kafka's does: the marker of a transaction goes to the topic that has the
name then, though it was deleted and created again within the transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from confluent_kafka import KafkaError

from tests.simulation.kafka.broker import Place
from tests.simulation.kafka.partition_log import ErrorCode, PartitionLog
from tests.simulation.scheduler import Scheduler, Timer

ProducerIdentity = tuple[int, int]
"""Id and epoch."""
_FIRST_ID: Final = 1_000
_MARKER_SECS: Final = 0.001
"""Time from the decision over a transaction to its markers in the partitions, in seconds."""


class _State:
    """A transactional id at its coordinator."""

    def __init__(self, producer_id: int) -> None:
        self.producer_id = producer_id
        self.epoch = -1
        self.places: dict[Place, None] = {}
        """The partitions of the open transaction."""
        self.is_ending = False
        """Whether the transaction is decided and its markers are being written."""
        self.last_end: bool | None = None
        """Whether the last transaction was committed; None if there was none, or one has begun since."""
        self.timeout_secs = 0.0
        self.timer: Timer | None = None


@final
class Transactions:
    """Coordinates all transactional ids."""

    def __init__(self, scheduler: Scheduler, log_at: Callable[[Place], PartitionLog | None]) -> None:
        """``log_at``: the partition that has this name now."""
        self._scheduler = scheduler
        self._log_at = log_at
        self._next_id = _FIRST_ID
        self._states: dict[str, _State] = {}

    def new_producer(self) -> ProducerIdentity:
        """Answer InitProducerId of a producer without transactions."""
        self._next_id += 1
        return self._next_id, 0

    def init_producer(self, name: str, timeout_secs: float) -> ProducerIdentity | ErrorCode:
        """Answer InitProducerId: shut out the producer before, and undo what it left open."""
        state = self._states.get(name)
        if state is None:
            state = self._states[name] = _State(self.new_producer()[0])
        if state.is_ending:
            return KafkaError.CONCURRENT_TRANSACTIONS
        state.epoch += 1
        state.timeout_secs = timeout_secs
        if state.places:
            self._decide(state, is_committed=False)
            return KafkaError.CONCURRENT_TRANSACTIONS
        state.last_end = None
        return state.producer_id, state.epoch

    def add_partition(self, name: str, producer: ProducerIdentity, place: Place) -> ErrorCode | None:
        """Answer AddPartitionsToTxn."""
        state = self._states.get(name)
        if (error := _fence(state, producer)) is not None or state is None:
            return error
        if state.is_ending:
            return KafkaError.CONCURRENT_TRANSACTIONS
        state.places[place] = None
        state.last_end = None
        if state.timer is None:
            state.timer = self._scheduler.call_later(state.timeout_secs, self._expire, state)
        return None

    def end(self, name: str, producer: ProducerIdentity, *, is_committed: bool) -> ErrorCode | None:
        """Answer EndTxn. A repeated question has the same answer."""
        state = self._states.get(name)
        if (error := _fence(state, producer)) is not None or state is None:
            return error
        if state.is_ending:
            return (
                KafkaError.CONCURRENT_TRANSACTIONS if state.last_end == is_committed else KafkaError.INVALID_TXN_STATE
            )
        if not state.places:
            return None if state.last_end == is_committed else KafkaError.INVALID_TXN_STATE
        self._decide(state, is_committed=is_committed)
        return None

    def refusal(self, producer: ProducerIdentity, place: Place) -> ErrorCode | None:
        """The error of a partition's first batch in a transaction that does not cover it, as one that came late.

        Without it the transaction in the partition would have no end, and would hold its readers back for good.
        """
        state = next((state for state in self._states.values() if state.producer_id == producer[0]), None)
        if state is None:
            return KafkaError.INVALID_PRODUCER_ID_MAPPING
        if producer[1] != state.epoch:
            return KafkaError.INVALID_PRODUCER_EPOCH
        if state.is_ending:
            return KafkaError.NOT_ENOUGH_REPLICAS  # so that the client repeats it
        return None if place in state.places else KafkaError.INVALID_TXN_STATE

    def _expire(self, state: _State) -> None:
        """A transaction took too long: undo it, and shut its producer out."""
        state.timer = None
        if state.places and not state.is_ending:
            state.epoch += 1
            self._decide(state, is_committed=False)

    def _decide(self, state: _State, *, is_committed: bool) -> None:
        state.is_ending, state.last_end = True, is_committed
        if state.timer is not None:
            state.timer.cancel()
            state.timer = None
        self._scheduler.call_later(_MARKER_SECS, self._write_markers, state)

    def _write_markers(self, state: _State) -> None:
        for place in list(state.places):
            log = self._log_at(place)
            if log is not None and log.leader is None:
                log.when_changed(self._once(state))
                return
            del state.places[place]
            if log is not None:
                log.end_transaction((state.producer_id, state.epoch), is_committed=bool(state.last_end))
        state.is_ending = False

    def _once(self, state: _State) -> Callable[[], None]:
        return lambda: self._write_markers(state)


def _fence(state: _State | None, producer: ProducerIdentity) -> ErrorCode | None:
    if state is None or producer[0] != state.producer_id:
        return KafkaError.INVALID_PRODUCER_ID_MAPPING
    return None if producer[1] == state.epoch else KafkaError.PRODUCER_FENCED
