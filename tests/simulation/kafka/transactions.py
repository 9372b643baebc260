"""The broker's side of producer ids and transactions: who may write with which epoch, and where a transaction wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, final

from confluent_kafka import KafkaError

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
        self.logs: dict[PartitionLog, None] = {}
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

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
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
        if state.logs:
            self._decide(state, is_committed=False)
            return KafkaError.CONCURRENT_TRANSACTIONS
        state.last_end = None
        return state.producer_id, state.epoch

    def add_partitions(self, name: str, producer: ProducerIdentity, logs: Iterable[PartitionLog]) -> ErrorCode | None:
        """Answer AddPartitionsToTxn."""
        state = self._states.get(name)
        if (error := _fence(state, producer)) is not None or state is None:
            return error
        if state.is_ending:
            return KafkaError.CONCURRENT_TRANSACTIONS
        state.logs |= dict.fromkeys(logs)
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
        if not state.logs:
            return None if state.last_end == is_committed else KafkaError.INVALID_TXN_STATE
        self._decide(state, is_committed=is_committed)
        return None

    def _expire(self, state: _State) -> None:
        """A transaction took too long: undo it, and shut its producer out."""
        state.timer = None
        if state.logs and not state.is_ending:
            state.epoch += 1
            self._decide(state, is_committed=False)

    def _decide(self, state: _State, *, is_committed: bool) -> None:
        state.is_ending, state.last_end = True, is_committed
        if state.timer is not None:
            state.timer.cancel()
            state.timer = None
        self._scheduler.call_later(_MARKER_SECS, self._write_markers, state)

    def _write_markers(self, state: _State) -> None:
        for log in list(state.logs):
            if log.leader is None and not log.is_deleted:
                log.when_changed(self._once(state))
                return
            del state.logs[log]
            log.end_transaction((state.producer_id, state.epoch), is_committed=bool(state.last_end))
        state.is_ending = False

    def _once(self, state: _State) -> Callable[[], None]:
        return lambda: self._write_markers(state)


def _fence(state: _State | None, producer: ProducerIdentity) -> ErrorCode | None:
    if state is None or producer[0] != state.producer_id:
        return KafkaError.INVALID_PRODUCER_ID_MAPPING
    return None if producer[1] == state.epoch else KafkaError.PRODUCER_FENCED
