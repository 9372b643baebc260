"""The part that all simulated clients share: connections to brokers, known metadata, and events for callbacks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, TypeVar, cast

import orjson
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import BrokerMetadata, ClusterMetadata, PartitionMetadata, TopicMetadata

from tests.simulation.kafka.broker import Broker, Metadata, TopicView
from tests.simulation.kafka.cluster import Cluster
from tests.simulation.kafka.network import Coordinator, Done
from tests.simulation.kafka.partition_log import ErrorCode, PartitionLog
from tests.simulation.scheduler import Condition, Host, Scheduler

RECONNECT_SECS: Final = 0.1
"""Time between two tries to reach brokers of which none answered: librdkafka's ``reconnect.backoff.ms``."""
_SOCKET_MS: Final = 60_000
"""librdkafka's default of ``socket.timeout.ms``."""
_REACHED: Final = "UP"
_LOST: Final = "DOWN"
_FOREVER: Final = 10.0**9
T = TypeVar("T", bound="type[SimClient]")


def bound_to(kind: T, cluster: Cluster, scheduler: Scheduler) -> T:
    """The class of clients of this kind that live in this world, for code that creates them by their properties."""
    return type(kind.__name__, (kind,), {"cluster": cluster, "scheduler": scheduler})  # type: ignore[return-value]


class Link:
    """A client's connection to one broker."""

    def __init__(self) -> None:
        self.state = "INIT"
        self.errors = 0
        self.timeouts = 0


class SimClient:
    """A client on the host that created it. Its background work ends with the host."""

    cluster: ClassVar[Cluster]
    scheduler: ClassVar[Scheduler]

    def __init__(self, properties: Mapping[str, Any]) -> None:
        thread = self.scheduler.running
        if thread is None:
            raise RuntimeError("only a simulated thread can create a client")
        self._host: Host = thread.host
        self._properties = dict(properties)
        self._links: dict[int, Link] = {}
        self._views: dict[str, TopicView | ErrorCode] = {}
        """The newest metadata of topics."""
        self._events = deque[Callable[[], None]]()
        """Callbacks that `poll` will make."""
        self._changed = Condition(self.scheduler)
        """Notified when an event or an awaited answer has come."""
        self._statistics_secs = self._number("statistics.interval.ms", 0) / 1000
        self._next_statistics = self.scheduler.now if self._statistics_secs else _FOREVER
        self._sent = 0
        self._in_flight: dict[int, dict[int, Done]] = {}
        """By broker the requests without an answer."""

    # Requests

    def _send(
        self,
        broker: int | Coordinator,
        api: str,
        handle: Callable[[], Any],
        done: Done,
        timeout: float | None = None,
    ) -> None:
        """Send a request; ``done`` gets the answer or the code of an error, in the background of the host."""
        secs = self._number("socket.timeout.ms", _SOCKET_MS) / 1000
        at = self.cluster.coordinator_broker(broker.key) if isinstance(broker, Coordinator) else broker

        self._sent += 1
        number = self._sent
        if at is not None:
            self._in_flight.setdefault(at, {})[number] = done

        def note(answer: Any) -> bool:
            if at is not None:
                if self._in_flight[at].pop(number, None) is None:
                    return False  # its connection was closed
                self._note_link(at, answer)
            done(answer)
            if at is not None and isinstance(answer, int) and answer == KafkaError._TIMED_OUT:
                self._disconnect(at)
            return True

        self.cluster.network.request(self._host, broker, api, handle, note, secs if timeout is None else timeout)

    def _send_to_any(self, api: str, handle: Callable[[Broker], Any], done: Done, timeout: float | None = None) -> None:
        """Send a request that any broker answers, to one of those that are not known to be down."""
        numbers = list(self.cluster.brokers)
        usable = [number for number in numbers if number not in self._links or self._links[number].state != _LOST]
        number = self.cluster.dice.choice(usable or numbers)
        self._send(number, api, lambda: handle(self.cluster.brokers[number]), done, timeout)

    def _ask(self, send: Callable[[Done, float], None], timeout: float) -> Any:
        """Block until a request has its answer, sent again while no broker can be reached. Raises KafkaException."""
        end = self.scheduler.now + (timeout if timeout >= 0 else _FOREVER)
        answers: list[Any] = []

        def note(answer: Any) -> None:
            answers.append(answer)
            self._changed.notify_all()

        send(note, end - self.scheduler.now)
        while True:
            while not answers and self.scheduler.now < end:
                self._changed.wait(end - self.scheduler.now)
            answer = answers.pop() if answers else KafkaError._TIMED_OUT
            if not isinstance(answer, int):
                return answer
            if answer != KafkaError._TRANSPORT or self.scheduler.now + RECONNECT_SECS >= end:
                self._pause(end if answer == KafkaError._TRANSPORT else 0)
                raise KafkaException(KafkaError(answer))
            self._pause(self.scheduler.now + RECONNECT_SECS)
            send(note, end - self.scheduler.now)

    def _pause(self, until: float) -> None:
        while self.scheduler.now < until:
            self._changed.wait(until - self.scheduler.now)

    # Connections

    def _disconnect(self, broker: int) -> None:
        """A request got no answer in time: close the connection, as ``socket.max.fails=1`` says."""
        waiting = self._in_flight[broker]
        self._in_flight[broker] = {}
        for done in waiting.values():
            done(KafkaError._TRANSPORT)

    def _note_link(self, broker: int, answer: Any) -> None:
        link = self._links.setdefault(broker, Link())
        if answer == KafkaError._TRANSPORT and isinstance(answer, int):
            link.errors += 1
            self._lose(broker, link, KafkaError._TRANSPORT, "Connect failed: Connection refused")
        elif answer == KafkaError._TIMED_OUT and isinstance(answer, int):
            link.timeouts += 1
            self._lose(broker, link, KafkaError._TIMED_OUT, "1 request(s) timed out: disconnect")
        elif link.state != _REACHED:
            link.state = _REACHED

    def _lose(self, broker: int, link: Link, code: ErrorCode, reason: str) -> None:
        """A connection has failed: tell `error_cb`, and also when it was the last one."""
        was_lost, link.state = link.state == _LOST, _LOST
        known = self.cluster.brokers[broker]
        self._report_error(KafkaError(code, f"{known.host}:{known.port}/{broker}: {reason}"))
        others = [self._links.get(number) for number in self.cluster.brokers]
        if not was_lost and all(other is not None and other.state == _LOST for other in others):
            self._forget_leaders()
            count = len(self.cluster.brokers)
            self._report_error(KafkaError(KafkaError._ALL_BROKERS_DOWN, f"{count}/{count} brokers are down"))

    def _forget_leaders(self) -> None:
        """No broker can be reached: begin with the first addresses again (KIP-899)."""

    def _report_error(self, error: KafkaError) -> None:
        callback = self._properties.get("error_cb")
        if callback is not None:
            self._add_event(lambda: callback(error))

    # Events

    def _add_event(self, event: Callable[[], None]) -> None:
        self._events.append(event)
        self._changed.notify_all()

    def _serve_events(self) -> int:
        """Make the callbacks that are due; their number."""
        if self.scheduler.now >= self._next_statistics:
            self._serve_statistics()
        served = 0
        while self._events:
            served += 1
            self._events.popleft()()
        return served

    def _serve_statistics(self) -> None:
        self._next_statistics = self.scheduler.now + self._statistics_secs
        callback = self._properties.get("stats_cb")
        if callback is not None:
            callback(orjson.dumps(self._statistics()).decode())

    def _statistics(self) -> dict[str, Any]:
        """The part of librdkafka's statistics that all clients have."""
        rtt = 2 * 500  # microseconds
        return {
            "msg_cnt": 0,
            "topics": {},
            "brokers": {
                f"{self.cluster.brokers[number].host}:9092/{number}": {
                    "nodeid": number,
                    "state": link.state if self.cluster.is_up(number) else _LOST,
                    "rtt": {"avg": rtt},
                    "txerrs": 0,
                    "rxerrs": link.errors,
                    "req_timeouts": link.timeouts,
                }
                for number, link in self._links.items()
            },
        }

    # Metadata

    def list_topics(self, topic: str | None = None, timeout: float = -1.0) -> ClusterMetadata:
        """As librdkafka's. Raises KafkaException."""
        wanted = None if topic is None else [topic]

        def send(done: Done, secs: float) -> None:
            self._send_to_any("Metadata", lambda broker: broker.metadata(wanted), done, secs)

        answer: Metadata = self._ask(send, timeout)
        self._learn(answer.topics)
        return cast("ClusterMetadata", self._cluster_metadata(answer))

    def _cluster_metadata(self, answer: Metadata) -> Any:
        found = cast("Any", ClusterMetadata())  # its annotations know only the values before it is filled
        found.cluster_id, found.controller_id = self.cluster.cluster_id, self.cluster.controller_id
        for number in answer.brokers:
            broker = found.brokers[number] = cast("Any", BrokerMetadata())
            known = self.cluster.brokers[number]
            broker.id, broker.host, broker.port = number, known.host, known.port
        for name, view in answer.topics.items():
            topic = found.topics[name] = TopicMetadata()
            topic.topic = name
            if isinstance(view, int):
                topic.error = KafkaError(view)
            else:
                logs = zip(view.topic.partitions, view.leaders, strict=False)
                topic.partitions = {log.number: _partition(log, leader, answer.brokers) for log, (leader, _) in logs}
        return found

    def _refresh(self, topics: list[str], done: Callable[[], None]) -> None:
        """Ask for metadata in the background; ``done`` is called when it has come, or when that failed."""

        def note(answer: Any) -> None:
            if not isinstance(answer, int):
                self._learn(answer.topics)
            done()

        self._send_to_any("Metadata", lambda broker: broker.metadata(topics), note)

    def _learn(self, views: Mapping[str, TopicView | ErrorCode]) -> None:
        """Take an answer to Metadata."""
        self._views.update(views)

    def _leader(self, topic: str, partition: int) -> int | None:
        """The leader as far as this client knows."""
        view = self._views.get(topic)
        if view is None or isinstance(view, int) or partition >= len(view.leaders):
            return None
        return view.leaders[partition][0]

    # Properties

    def _number(self, name: str, default: float) -> float:
        """The value of a property that is a number."""
        return float(self._properties.get(name, default))


def _partition(log: PartitionLog, leader: int | None, live: Any) -> PartitionMetadata:
    found = PartitionMetadata()
    found.id = log.number
    found.leader = -1 if leader is None else leader
    found.replicas = list(log.replicas)
    found.isrs = [number for number in log.replicas if number in live]
    if leader is None:
        found.error = KafkaError(KafkaError.LEADER_NOT_AVAILABLE)
    return found
