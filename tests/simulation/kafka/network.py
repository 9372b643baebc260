"""Requests between clients and brokers: their latency, and the faults that a story sets.

Requests of one host to one coordinator keep their order, and so do the answers, because they share a connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from confluent_kafka import KafkaError

from tests.simulation.kafka.partition_log import ErrorCode
from tests.simulation.scheduler import Host, Scheduler, Timer

LATENCY_SECS: Final = 0.0005
"""Time of a request and of an answer, each, between hosts of one data center, in seconds."""
_REFUSED_SECS: Final = 0.001
"""Time until a client learns that no broker listens, in seconds."""


class Coordinator(NamedTuple):
    """The broker that coordinates a group or a transactional id."""

    key: str


class Fate(NamedTuple):
    """The fate of one request."""

    request_secs: float = LATENCY_SECS
    answer_secs: float = LATENCY_SECS
    is_request_lost: bool = False
    """Never handled; the client waits in vain."""
    is_answer_lost: bool = False
    """Handled, and the client waits in vain."""
    error: ErrorCode | None = None
    """The broker answers this and does not handle the request."""
    throttle_secs: float = 0.0
    """The broker handles the request, and the client hears it this much later."""


class Later:
    """An answer that a broker gives later: the handler returns this, and calls `give` once."""

    def __init__(self) -> None:
        self._deliver: Callable[[Any], None] | None = None
        self._given: list[Any] = []

    def give(self, answer: Any) -> None:
        """Answer. Only the first answer counts."""
        if self._deliver is not None and not self._given:
            self._deliver(answer)
        self._given = self._given or [answer]

    @property
    def is_given(self) -> bool:
        """Whether the broker has answered."""
        return bool(self._given)

    def when_given(self, deliver: Callable[[Any], None]) -> None:
        """Call ``deliver`` with the answer."""
        self._deliver = deliver
        if self._given:
            deliver(self._given[0])


class Brokers(Protocol):
    """The cluster, as the network sees it."""

    def is_up(self, broker: int) -> bool: ...

    def coordinator_broker(self, key: str) -> int | None: ...

    def is_loading(self, key: str) -> bool: ...


Faults = Callable[[str, Host, int], Fate]
Done = Callable[[Any], object]
"""Called with the answer, or with the code of an error. Answers are never integers. Returns False when the client has
closed the connection, so that the answer does not reach it."""


def no_faults(_api: str, _host: Host, _broker: int) -> Fate:
    """A network without faults."""
    return Fate()


class Network:
    """Brings requests to brokers and answers back."""

    def __init__(self, scheduler: Scheduler, brokers: Brokers) -> None:
        self._scheduler = scheduler
        self._brokers = brokers
        self.faults: Faults = no_faults
        """Decides the fate of each request, by API, host and broker."""
        self.count_fault: Callable[[str], None] = lambda _kind: None
        """Told each fault that happens."""
        self._cut: set[tuple[str, int]] = set()
        self._newest: dict[tuple[str, str, int, str], float] = {}
        """The newest time of an arrival at a coordinator, or of an answer from it: by way, host, broker and key."""
        self._on_their_way: dict[int, dict[_Request, None]] = {}
        """By broker the requests without an answer, in the order in which they were sent."""

    def cut(self, host: Host, broker: int) -> None:
        """Lose everything between this host and this broker, without a word to either."""
        self._cut.add((host.name, broker))

    def mend(self, host: Host, broker: int) -> None:
        """Undo `cut`."""
        self._cut.discard((host.name, broker))

    def request(
        self,
        host: Host,
        broker: int | Coordinator,
        api: str,
        handle: Callable[[], Any],
        done: Done,
        timeout: float,
    ) -> None:
        """Have a request handled at a broker, and call ``done`` once on the client's host.

        ``done`` gets the answer or the code of an error: the broker's, or `_TRANSPORT` from a connection that is
        refused or closes, or `_TIMED_OUT` after ``timeout`` seconds.
        """
        at = self._brokers.coordinator_broker(broker.key) if isinstance(broker, Coordinator) else broker
        if at is None:
            host.call_later(_REFUSED_SECS, done, KafkaError.COORDINATOR_NOT_AVAILABLE)
        elif not self._brokers.is_up(at):
            host.call_later(_REFUSED_SECS, done, KafkaError._TRANSPORT)
        else:
            key = broker.key if isinstance(broker, Coordinator) else None
            _Request(self, host, at, api, done, key).send(handle, timeout)

    def close_connections(self, broker: int) -> None:
        """A broker has died: its clients notice at once."""
        for request in list(self._on_their_way.pop(broker, {})):
            request.close()

    def is_cut(self, host: Host, broker: int) -> bool:
        """Whether nothing passes between them."""
        return (host.name, broker) in self._cut


class _Request:
    """One request on its way, until the client has an answer."""

    def __init__(
        self, network: Network, host: Host, broker: int, api: str, done: Done, coordinated: str | None
    ) -> None:
        self._network = network
        self._host = host
        self._broker = broker
        self._done: Done | None = done
        self._fate = network.faults(api, host, broker)
        self._timer: Timer | None = None
        self._api = api
        self._coordinated = coordinated
        """The group or transactional id, where the request goes to its coordinator."""
        self._is_closed = False

    def send(self, handle: Callable[[], Any], timeout: float) -> None:
        fate, network = self._fate, self._network
        network._on_their_way.setdefault(self._broker, {})[self] = None
        self._timer = self._host.call_later(timeout, self._report, KafkaError._TIMED_OUT)
        if network.is_cut(self._host, self._broker):
            network.count_fault("kafka.cut")
        elif fate.is_request_lost:
            network.count_fault(f"kafka.request-lost.{self._api}")
        else:
            network._scheduler.call_later(self._in_order("request", fate.request_secs), self._arrive, handle)

    def _in_order(self, way: str, secs: float) -> float:
        """The time on the way. It is extended when the message would otherwise overtake an earlier one."""
        if self._coordinated is None:
            return secs
        network, key = self._network, (way, self._host.name, self._broker, self._coordinated)
        now = network._scheduler.now
        network._newest[key] = max(now + secs, network._newest.get(key, now))
        return network._newest[key] - now

    def _arrive(self, handle: Callable[[], Any]) -> None:
        fate, network = self._fate, self._network
        if self._is_closed:
            return
        if fate.error is not None:
            network.count_fault(f"kafka.error.{self._api}")
        error = self._misdirected() if fate.error is None else fate.error
        if error is not None:
            self.finish(error, self._in_order("answer", fate.answer_secs))
            return
        answer = handle()
        if isinstance(answer, Later):
            answer.when_given(self._send_back)
        else:
            self._send_back(answer)

    def _misdirected(self) -> ErrorCode | None:
        """The error of a broker that coordinates this not, or not yet."""
        key, brokers = self._coordinated, self._network._brokers
        if key is None:
            return None
        if brokers.coordinator_broker(key) != self._broker:
            return KafkaError.NOT_COORDINATOR
        return KafkaError.COORDINATOR_LOAD_IN_PROGRESS if brokers.is_loading(key) else None

    def close(self) -> None:
        """The connection closes before the broker has answered."""
        self._is_closed = True
        self.finish(KafkaError._TRANSPORT, _REFUSED_SECS)

    def _send_back(self, answer: Any) -> None:
        fate, network = self._fate, self._network
        if fate.is_answer_lost or network.is_cut(self._host, self._broker):
            network.count_fault(f"kafka.answer-lost.{self._api}")
            return
        if fate.throttle_secs:
            network.count_fault(f"kafka.throttled.{self._api}")
        self.finish(answer, self._in_order("answer", fate.answer_secs + fate.throttle_secs))

    def finish(self, answer: Any, secs: float) -> None:
        """Bring this to the client, which is not told anything else any more."""
        if self._done is not None and self._host.is_alive:
            self._forget()
            self._host.call_later(secs, self._report, answer)

    def _report(self, answer: Any) -> None:
        done, self._done = self._done, None
        self._forget()
        if done is not None:
            done(answer)

    def _forget(self) -> None:
        self._network._on_their_way.get(self._broker, {}).pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
