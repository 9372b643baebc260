"""What a cluster says while it settles: a topic just made, a leader or coordinator that is changing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

T = TypeVar("T")
_PASSING: Final = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
    }
)
_TRIES: Final = 20
_PAUSE_SECS: Final = 0.25
_TIMEOUT_SECS: Final = 10.0


def retry_while_settling(ask: Callable[[], T]) -> T:
    """The answer, asked for again for up to 5 s while the cluster is settling; then its KafkaException."""
    for _ in range(_TRIES - 1):
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _PASSING:
                raise
        time.sleep(_PAUSE_SECS)
    return ask()


def offsets_for_time(consumer: Consumer, topic: str, epoch_ms: int, ends: Mapping[int, int]) -> dict[int, int]:
    """By partition of ``ends`` the first offset of this time or later; the end where there is none.

    Raises KafkaException where a partition's answer is an error: it does not say that there is no such offset.
    """
    wanted = [TopicPartition(topic, number, max(epoch_ms, 0)) for number in ends]
    found = consumer.offsets_for_times(wanted, timeout=_TIMEOUT_SECS)
    for partition in found:
        if partition.error is not None:
            raise KafkaException(partition.error)
    return {p.partition: p.offset if p.offset >= 0 else ends[p.partition] for p in found}
