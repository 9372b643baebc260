"""Restarts of the broker, beside the other disturbances."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Literal, Self

from tests.chaos.clock import now
from tests.chaos.disturbances import Disturbances
from tests.support.kafka.local import LocalKafka


class Broker:
    """Restarts the broker in a thread of its own: a start takes seconds."""

    def __init__(self, kafka: LocalKafka, disturbances: Disturbances) -> None:
        self._kafka = kafka
        self._disturbances = disturbances
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="broker")
        self._stopping = threading.Event()
        self._work: Future[None] | None = None
        self.restarts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.shutdown()

    @property
    def is_busy(self) -> bool:
        """Whether a restart is in flight; raises what went wrong with the last one."""
        if self._work is None:
            return False
        if self._work.done():
            self._work.result()
            self._work = None
        return self._work is not None

    def restart(self, how: Literal["broker_kill", "broker_stop"], away_secs: float) -> None:
        """End the broker by a crash or in good order, and start it again after this time."""
        self._work = self._thread.submit(self._restart, how, away_secs)

    def _restart(self, how: str, away_secs: float) -> None:
        self._disturbances.broker_gone(now())
        if how == "broker_kill":
            self._kafka.kill()
        else:
            self._kafka.stop()
        self._stopping.wait(away_secs)
        if not self._stopping.is_set():
            self._kafka.start()
            self._disturbances.broker_back(now())
            self.restarts += 1
