"""What a cluster says while it settles: a topic just made, a leader or coordinator that is changing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from confluent_kafka import KafkaError, KafkaException

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


def patiently(ask: Callable[[], T]) -> T:
    """The answer, asked for again for up to 5 s while the cluster is settling; then its KafkaException."""
    for _ in range(_TRIES - 1):
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _PASSING:
                raise
        time.sleep(_PAUSE_SECS)
    return ask()
