"""A producer's own thread: it fetches the delivery reports that callers wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, final

from confluent_kafka import KafkaException, Producer

from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.statistics import INTERVAL_MS, StatisticsKeeper

_POLL_SECS: Final = 0.1


def callbacks(keeper: StatisticsKeeper) -> dict[str, Any]:
    """Properties that keep a producer's errors off stderr and bring its statistics to ``keeper``."""
    return {"error_cb": lambda _error: None, "stats_cb": keeper, "statistics.interval.ms": INTERVAL_MS}


@final
class Polling:
    """Serves a producer's delivery reports, in a thread."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self.fatal = ""
        """The error after which the producer writes nothing any more."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="kafka-producer", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                self._producer.poll(_POLL_SECS)
            except Exception as error:  # noqa: BLE001 - if this thread ended, whoever waits would wait for ever
                self.fatal = self.fatal or (error.args[0].str() if isinstance(error, KafkaException) else repr(error))
                # What is still on its way will not arrive: its reports come now, not when their time-out has passed.
                self._producer.purge()

    def end(self, flush_secs: float) -> None:
        """Stop polling, wait up to ``flush_secs`` for records that Kafka has not acknowledged, and give up the rest."""
        self._stopping.set()
        self._thread.join()
        # A fatal error that is met only now: there is nobody left to tell.
        with suppress(KafkaException):
            self._producer.flush(flush_secs)
        self._producer.purge()  # else librdkafka complains on stderr, in words of its own
        with suppress(KafkaException):
            self._producer.flush(1.0)  # at once: the reports of what was given up


@asynccontextmanager
async def being_polled(producer: Producer, flush_secs: float = 0.0) -> AsyncIterator[Polling]:
    """Serve a producer's delivery reports until the block ends; then wait up to ``flush_secs`` for the last ones."""
    polling = Polling(producer)
    try:
        yield polling
    finally:
        await asyncio.get_running_loop().run_in_executor(None, polling.end, flush_secs)


def cannot_go_on(reason: str) -> OperatorError:
    """The error for callers of a producer that has met a fatal error."""
    return OperatorError(f"the Kafka producer cannot go on, start it anew: {reason}")
