"""Brokers that refused a connection: a client tries them again after a time that doubles, and holds requests back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, final

from confluent_kafka import KafkaError

from tests.simulation.scheduler import Host

_FIRST_SECS: Final = 0.1
"""librdkafka's default of ``reconnect.backoff.ms``, in seconds."""

Send = Callable[[Callable[[Any], None]], None]
"""Sends a request whose answer goes there."""


@final
class _Broker:
    def __init__(self) -> None:
        self.secs = 0.0
        """The present wait; 0 while the broker is connected."""
        self.waiting = deque[Callable[[], None]]()


@final
class Reconnects:
    """The connections of one client."""

    def __init__(
        self, host: Host, longest_secs: float, try_broker: Callable[[int, Callable[[Any], None]], None]
    ) -> None:
        """``try_broker``: sends the first request of a connection."""
        self._host = host
        self._longest_secs = longest_secs
        self._try_broker = try_broker
        self._brokers: dict[int, _Broker] = {}

    def send(self, number: int, send: Send, done: Callable[[Any], None]) -> None:
        """Send a request to a broker, or hold it back until the broker is connected again."""
        broker = self._brokers.setdefault(number, _Broker())
        if broker.secs:
            broker.waiting.append(lambda: self.send(number, send, done))
            return

        def take(answer: Any) -> None:
            if isinstance(answer, int) and answer == KafkaError._TRANSPORT and not broker.secs:
                self._fail(number, broker)
            done(answer)

        send(take)

    def _fail(self, number: int, broker: _Broker) -> None:
        broker.secs = min(self._longest_secs, 2 * broker.secs or _FIRST_SECS)
        self._host.call_later(broker.secs, self._try_broker, number, lambda answer: self._take(number, broker, answer))

    def _take(self, number: int, broker: _Broker, answer: Any) -> None:
        if isinstance(answer, int):
            self._fail(number, broker)
            return
        broker.secs = 0.0
        waiting, broker.waiting = broker.waiting, deque()
        for go_on in waiting:
            go_on()
