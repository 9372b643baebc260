"""The cluster: its brokers, topics and elections. The story calls it; clients only send requests to brokers."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from zlib import crc32

from tests.simulation.kafka.access import AccessList
from tests.simulation.kafka.broker import Broker, Place, Topic, TopicView
from tests.simulation.kafka.network import Network
from tests.simulation.kafka.partition_log import PartitionLog
from tests.simulation.kafka.transactions import Transactions
from tests.simulation.scheduler import Scheduler

FAILOVER_SECS: Final = 1.0
"""Default of the time until the controller notices that a broker is down, in seconds."""
_ID_BYTES: Final = 16


class Cluster:
    """A Kafka cluster. All that a client may know of it comes through ``brokers``."""

    def __init__(self, scheduler: Scheduler, dice: random.Random, brokers: int = 3) -> None:
        self.scheduler = scheduler
        self.dice = dice
        self.cluster_id = self._new_id()
        self.acl = AccessList()
        self.acl.on_denial = self._wake
        self.transactions = Transactions(scheduler, self._log_at)
        self.brokers = {
            n: Broker(n, scheduler, self.acl, self.live_brokers, self.transactions.refusal)
            for n in range(1, brokers + 1)
        }
        self.network = Network(scheduler, self)
        self.failover_secs = FAILOVER_SECS
        self.load_secs = 0.0
        """Time for which a new coordinator is loading its groups."""
        self.lag_of: Callable[[int], float] = lambda _broker: 0.0
        """Seconds after which a broker hears of a change."""
        self.coordinators: Any = None
        """`Coordinators` of groups.py, which keeps all groups."""
        self._topics: dict[str, Topic] = {}
        self._heard_at = dict.fromkeys(self.brokers, 0.0)
        """By broker the time at which it hears of the newest change."""
        self._coordinated: dict[str, tuple[int, float]] = {}
        """By key its coordinator, and since when."""
        self._moves: dict[str, int] = {}

    # Brokers

    @property
    def controller_id(self) -> int:
        """The broker that clients take for the controller; -1 if none is up."""
        return next(iter(self.live_brokers()), -1)

    def live_brokers(self) -> list[int]:
        """The brokers that the controller believes to be up."""
        return [number for number, broker in self.brokers.items() if not broker.is_known_down]

    def is_up(self, broker: int) -> bool:
        """Whether a broker accepts connections."""
        return self.brokers[broker].is_up

    @property
    def heard_at(self) -> float:
        """The time by which every broker has heard of all changes until now."""
        return max(self.scheduler.now, *self._heard_at.values())

    def stop_broker(self, number: int) -> None:
        """A broker dies. Its partitions get other leaders once the controller notices."""
        broker = self.brokers[number]
        broker.is_up = False
        self.network.close_connections(number)
        self.scheduler.call_later(self.failover_secs, self._notice, broker)

    def start_broker(self, number: int) -> None:
        """A broker comes back, with the newest view. It leads the partitions that have no leader."""
        broker = self.brokers[number]
        broker.is_up, broker.is_known_down = True, False
        broker.view = {name: _view(topic) for name, topic in self._topics.items()}
        self._elect_where(lambda log: log.leader is None)

    def _notice(self, broker: Broker) -> None:
        if not broker.is_up:
            broker.is_known_down = True
            self._elect_where(lambda log: log.leader == broker.id)

    def _elect_where(self, is_wanted: Callable[[PartitionLog], bool]) -> None:
        for topic in list(self._topics.values()):
            for log in topic.partitions:
                if is_wanted(log):
                    log.elect(self._candidate(log))
            self._tell(topic.name)

    def _candidate(self, log: PartitionLog) -> int | None:
        live = self.live_brokers()
        return next((number for number in log.replicas if number in live), None)

    def elect(self, topic: str, partition: int, leader: int, truncate_to: int | None = None) -> None:
        """Move the leadership. ``truncate_to``: the new leader lacks the records from there on, which are lost."""
        self._topics[topic].partitions[partition].elect(leader, truncate_to)
        self._tell(topic)

    # Topics

    def topic(self, name: str) -> Topic | None:
        """The topic of this name that exists now."""
        return self._topics.get(name)

    def _log_at(self, place: Place) -> PartitionLog | None:
        topic = self._topics.get(place[0])
        return topic.partitions[place[1]] if topic is not None and place[1] < len(topic.partitions) else None

    @property
    def topics(self) -> Mapping[str, Topic]:
        """All topics by name."""
        return self._topics

    def create_topic(
        self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None, replication: int | None = None
    ) -> Topic:
        """Create a topic, with a new id."""
        if name in self._topics:
            raise ValueError(f"topic {name} exists")
        topic = self._topics[name] = Topic(name, self._new_id(), config or {})
        self._grow(topic, partitions, replication or min(3, len(self.brokers)))
        self._tell(name)
        return topic

    def delete_topic(self, name: str) -> None:
        """Delete a topic. Brokers that lag behind serve it for a moment."""
        for log in self._topics.pop(name).partitions:
            log.is_deleted = True
            log.wake()
        self._tell(name)

    def add_partitions(self, name: str, total: int) -> None:
        """Let a topic have ``total`` partitions."""
        topic = self._topics[name]
        self._grow(topic, total, len(topic.partitions[0].replicas))
        self._tell(name)

    def set_config(self, name: str, **config: str) -> None:
        """Change settings of a topic; underscores stand for dots."""
        self._topics[name].config |= {key.replace("_", "."): value for key, value in config.items()}

    def _wake(self, resource: str, name: str) -> None:
        """End the fetches that wait, as their next one would come within a moment."""
        topic = self._topics.get(name) if resource == "topic" else None
        for log in () if topic is None else topic.partitions:
            log.wake()

    def _grow(self, topic: Topic, total: int, replication: int) -> None:
        order = list(self.brokers)
        for number in range(len(topic.partitions), total):
            replicas = [order[(number + i) % len(order)] for i in range(replication)]
            log = PartitionLog(topic.name, number, replicas)
            log.leader = self._candidate(log)
            topic.partitions.append(log)

    def _tell(self, name: str) -> None:
        """Let every broker hear of a topic's present state, in the order of changes."""
        topic = self._topics.get(name)
        view = None if topic is None else _view(topic)
        now = self.scheduler.now
        for number, broker in self.brokers.items():
            at = max(now + self.lag_of(number), self._heard_at[number])
            if at <= now:
                self._hear(broker, name, view)
            else:
                self._heard_at[number] = at
                self.scheduler.call_later(at - now, self._hear, broker, name, view)

    def _hear(self, broker: Broker, name: str, view: TopicView | None) -> None:
        known = broker.view.pop(name, None)
        if view is not None:
            broker.view[name] = view
        if known is not None:
            for log in known.topic.partitions:
                log.wake()

    def _new_id(self) -> str:
        while True:
            topic_id = base64.urlsafe_b64encode(self.dice.randbytes(_ID_BYTES)).decode().rstrip("=")
            if not topic_id.startswith("-"):  # Kafka avoids these, which look like options of its tools
                return topic_id

    # Coordinators

    def coordinator(self, group_id: str) -> Any:
        """The `GroupCoordinator` of a group."""
        return self.coordinators.of(group_id)

    def coordinator_broker(self, key: str) -> int | None:
        """The broker that coordinates a group or a transactional id; None if none is up."""
        live = self.live_brokers()
        if not live:
            return None
        order = self._order(key)
        number = next(n for n in order if n in live)
        known = self._coordinated.get(key)
        if known is None or known[0] != number:
            since = self.scheduler.now if known is not None else float("-inf")
            self._coordinated[key] = (number, since)
        return number

    def is_loading(self, key: str) -> bool:
        """Whether the coordinator has taken over only now, and does not answer yet."""
        self.coordinator_broker(key)
        known = self._coordinated.get(key)
        return known is not None and self.scheduler.now < known[1] + self.load_secs

    def move_coordinator(self, key: str) -> None:
        """Let another broker coordinate this."""
        self._moves[key] = self._moves.get(key, 0) + 1

    def _order(self, key: str) -> Sequence[int]:
        order = list(self.brokers)
        begin = (crc32(key.encode()) + self._moves.get(key, 0)) % len(order)
        return order[begin:] + order[:begin]


def _view(topic: Topic) -> TopicView:
    return TopicView(topic, [(log.leader, log.epoch) for log in topic.partitions])
