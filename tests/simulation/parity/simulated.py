"""The kit on the simulated Kafka: the story is the one program of a host, in virtual time."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any, Final, NoReturn, final

from confluent_kafka import KafkaError

from tests.simulation.kafka.access import OPERATIONS
from tests.simulation.kafka.admin_client import SimAdminClient
from tests.simulation.kafka.client import bound_to
from tests.simulation.kafka.cluster import Cluster
from tests.simulation.kafka.consumer import SimConsumer
from tests.simulation.kafka.consumer_group import Timing
from tests.simulation.kafka.groups import Coordinators
from tests.simulation.kafka.network import Fate
from tests.simulation.kafka.partition_log import NewRecord, PartitionLog
from tests.simulation.kafka.producer import SimProducer
from tests.simulation.parity.clients import live_elsewhere
from tests.simulation.parity.kit import Elsewhere, Kit, Operation, ResourceKind
from tests.simulation.parity.stories import Story
from tests.simulation.scheduler import Condition, Host, Scheduler, SimThread
from tests.simulation.substitution import EPOCH, KafkaClients, simulated

_SEED: Final = 1
_LATE_BROKER: Final = 2
_LONGEST_SECS: Final = 600.0
"""Virtual time after which a story is given up."""
_DOWN_SECS: Final = 3.0
"""Time that brokers are down at least: the controller notices it, as it does while a real broker starts."""


@final
class SimulatedKit(Kit):
    """The kit in a world of its own, with brokers that are set as the real ones are."""

    def __init__(self, protocol: str, scheduler: Scheduler, brokers: int = 1) -> None:
        super().__init__(protocol)
        self._scheduler = scheduler
        self._numbers = count(1)
        self._pause = Condition(scheduler)
        self._stopped_at = scheduler.now
        self._shut: set[int] = set()
        self._loses: dict[int, bool] = {}
        """By broker whose answers to records are lost: whether one was."""
        self.cluster = Cluster(scheduler, random.Random(_SEED), brokers=brokers)
        self.cluster.network.faults = self._fate
        coordinators = self.cluster.coordinators = Coordinators(self.cluster)
        coordinators.first_delay_secs = 0.0
        coordinators.timing = Timing(session_secs=3.0, interval_secs=0.5)
        self.clients = KafkaClients(
            bound_to(SimConsumer, self.cluster, scheduler),
            bound_to(SimProducer, self.cluster, scheduler),
            bound_to(SimAdminClient, self.cluster, scheduler),
        )

    def consumer(self, properties: Mapping[str, Any]) -> Any:
        return self.clients.consumer(properties)

    def producer(self, properties: Mapping[str, Any]) -> Any:
        return self.clients.producer(properties)

    def admin(self) -> Any:
        return self.clients.admin_client({})

    def now(self) -> float:
        return self._scheduler.now

    def sleep(self, secs: float) -> None:
        self._pause.wait(secs)

    def unique(self, stem: str) -> str:
        return f"{stem}.{next(self._numbers)}"

    def new_topic(self, partitions: int = 1, **config: str) -> str:
        name = self.unique("topic")
        own = {setting.replace("_", "."): value for setting, value in config.items()}
        self.cluster.create_topic(name, partitions, own, replication=1)
        return name

    def delete_topic(self, topic: str) -> None:
        self.cluster.delete_topic(topic)

    def create_again(self, topic: str, partitions: int = 1) -> None:
        self.cluster.create_topic(topic, partitions, replication=1)

    def add_partitions(self, topic: str, total: int) -> None:
        self.cluster.add_partitions(topic, total)

    def remove_below(self, topic: str, partition: int, offset: int) -> None:
        self._log(topic, partition).remove_before(offset)

    def compact(self, topic: str, left: int) -> None:
        log = self._log(topic)
        log.compact(log.end - 1)
        assert len(log.records) == left

    def cut_off(self, topic: str, partition: int, offset: int) -> None:
        self._log(topic, partition).elect(None, truncate_to=offset)

    def stop_brokers(self) -> None:
        for broker in self.cluster.brokers:
            self.cluster.stop_broker(broker)
        self._stopped_at = self.now()

    def start_brokers(self) -> None:
        self.sleep(max(0.0, self._stopped_at + _DOWN_SECS - self.now()))
        for broker in self.cluster.brokers:
            self.cluster.start_broker(broker)

    def shut(self, broker: int) -> None:
        self._shut.add(broker)
        self.close_connections(broker)

    def open(self, broker: int) -> None:
        self._shut.discard(broker)

    def leave_behind(self) -> None:
        self.cluster.lag_of = lambda broker: _LONGEST_SECS if broker == _LATE_BROKER else 0.0

    def lose_answers(self, broker: int) -> None:
        self._loses[broker] = False

    def has_lost_an_answer(self, broker: int) -> bool:
        return self._loses[broker]

    def close_connections(self, broker: int) -> None:
        self._loses.pop(broker, None)
        self.cluster.network.close_connections(broker)

    def _fate(self, api: str, _host: Host, broker: int) -> Fate:
        if broker in self._shut:
            return Fate(error=KafkaError._TRANSPORT)
        if api == "Produce" and broker in self._loses:
            self._loses[broker] = True
            return Fate(is_answer_lost=True)
        return Fate()

    def deny(self, kind: ResourceKind, name: str, *operations: Operation) -> None:
        for operation in operations:
            self.cluster.acl.deny(kind, name, operation)

    def allow(self, kind: ResourceKind, name: str) -> None:
        for operation in OPERATIONS:
            self.cluster.acl.allow(kind, name, operation)

    def write_raw(self, topic: str, key: bytes, value: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        named = tuple((_name(name), content) for name, content in headers)
        self._log(topic).append([NewRecord(key, value, named, round(1_000 * (EPOCH + self.now())))])

    def write_unreadable(self, topic: str, records: int) -> None:
        self._log(topic).append_unreadable(records, int(KafkaError._BAD_COMPRESSION))

    def start_elsewhere(self, properties: Mapping[str, Any], topic: str) -> Elsewhere:
        host = self._scheduler.host(self.unique("elsewhere"))
        return _Elsewhere(host, lambda say: live_elsewhere(self.consumer(properties), topic, say))

    def _log(self, topic: str, partition: int = 0) -> PartitionLog:
        found = self.cluster.topic(topic)
        assert found is not None
        return found.partitions[partition]


@final
class _Elsewhere:
    """A member on a host of its own."""

    def __init__(self, host: Host, live: Callable[[Callable[[str], object]], NoReturn]) -> None:
        self._diary: list[str] = []
        self.kill, self.freeze, self.thaw = host.kill, host.pause, host.resume
        host.start(live, self._diary.append)

    def diary(self) -> list[str]:
        return self._diary


def tell_simulated(story: Story) -> list[str]:
    """The notes of a story; if it fails, the last one begins with FAILED."""
    scheduler = Scheduler()
    kit = SimulatedKit(story.protocol, scheduler, story.brokers)
    with simulated(scheduler, _SEED, kafka=kit.clients, connect=_nowhere):
        host = scheduler.host("story")
        host.on_thread_error = lambda _thread, error: kit.notes.append(_failure(error))
        thread: SimThread = host.start(story.tell, kit)
        try:
            if not scheduler.run_until(lambda: thread.has_ended, _LONGEST_SECS):
                kit.notes.append(f"FAILED: no end after {_LONGEST_SECS:.0f} s")
        finally:
            for other in list(scheduler.hosts.values()):
                other.kill()
    return kit.notes


def _failure(error: BaseException) -> str:
    return f"FAILED: {''.join(traceback.format_exception(error))}"


def _name(name: bytes) -> str | bytes:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name


def _nowhere(_host: Host, _factory: object, name: str, port: int) -> NoReturn:
    raise ConnectionRefusedError(f"{name}:{port}")
