"""`SimAdminClient`, in place of confluent_kafka.admin.AdminClient: only the operations that the product uses."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, TypeVar

from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Node,
    TopicCollection,
    TopicPartition,
    TopicPartitionInfo,
    Uuid,
)
from confluent_kafka.admin import (
    AclOperation,
    ConfigEntry,
    ConfigResource,
    ConsumerGroupDescription,
    ListOffsetsResultInfo,
    MemberAssignment,
    MemberDescription,
    NewTopic,
    OffsetSpec,
    ResourceType,
    TopicDescription,
)

from tests.simulation.kafka.access import Operation
from tests.simulation.kafka.broker import Broker, Place, TopicView
from tests.simulation.kafka.client import RECONNECT_SECS, SimClient
from tests.simulation.kafka.consumed import partition_outcome
from tests.simulation.kafka.groups import Commit, GroupDescription
from tests.simulation.kafka.network import Coordinator, Done
from tests.simulation.kafka.partition_log import ErrorCode
from tests.simulation.kafka.topic_config import configuration_of, configuration_of_broker, is_valid

_REQUEST_SECS: Final = 60.0
"""Time for an answer where the caller does not say it: librdkafka's ``socket.timeout.ms``."""
_ALWAYS: Final = {
    "topic": (
        AclOperation.ALTER,
        AclOperation.ALTER_CONFIGS,
        AclOperation.CREATE,
        AclOperation.DELETE,
        AclOperation.DESCRIBE_CONFIGS,
    ),
    "group": (AclOperation.ALTER_CONFIGS, AclOperation.DELETE, AclOperation.DESCRIBE_CONFIGS),
}
"""Operations that stories never deny."""
_OPERATIONS: Final[Mapping[Operation, AclOperation]] = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Describe": AclOperation.DESCRIBE,
}
_STATES: Final[Mapping[str, ConsumerGroupState]] = {
    "Empty": ConsumerGroupState.EMPTY,
    "Dead": ConsumerGroupState.DEAD,
    "Stable": ConsumerGroupState.STABLE,
    "PreparingRebalance": ConsumerGroupState.PREPARING_REBALANCING,
    "CompletingRebalance": ConsumerGroupState.COMPLETING_REBALANCING,
}
_WORD_BYTES: Final = 8
T = TypeVar("T")


class SimAdminClient(SimClient):
    """Answers come as futures, which the background of the host resolves."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        super().__init__(properties)
        self._nodes: dict[int, Node] = {}

    def poll(self, timeout: float = -1) -> int:
        """Wait for events up to ``timeout`` seconds and make their callbacks; their number."""
        if not self._events and timeout != 0:
            self._changed.wait(None if timeout < 0 else timeout)
        return self._serve_events()

    # Topics

    def create_topics(
        self, new_topics: Sequence[NewTopic], *, validate_only: bool = False, request_timeout: float = _REQUEST_SECS
    ) -> dict[str, Future[None]]:
        """As AdminClient's."""
        futures: dict[str, Future[None]] = {new.topic: Future() for new in new_topics}

        def create(_broker: Broker) -> dict[str, ErrorCode | None]:
            answer = {new.topic: self._why_not_created(new) for new in new_topics}
            for new in new_topics:
                if answer[new.topic] is None and not validate_only:
                    replication = None if new.replication_factor < 0 else new.replication_factor
                    self.cluster.create_topic(new.topic, new.num_partitions, new.config, replication)
            return answer

        self._ask_any("CreateTopics", create, futures, lambda _name, answer: answer, request_timeout)
        return futures

    def _why_not_created(self, new: NewTopic) -> ErrorCode | None:
        if self.cluster.topic(new.topic) is not None:
            return KafkaError.TOPIC_ALREADY_EXISTS
        if new.replication_factor > len(self.cluster.live_brokers()):
            return KafkaError.INVALID_REPLICATION_FACTOR
        if not all(is_valid(name, value) for name, value in (new.config or {}).items()):
            return KafkaError.INVALID_CONFIG
        return None

    def describe_topics(
        self,
        topics: TopicCollection,
        *,
        include_authorized_operations: bool = False,
        request_timeout: float = _REQUEST_SECS,
    ) -> dict[str, Future[TopicDescription]]:
        """As AdminClient's."""
        names = list(topics.topic_names)
        futures: dict[str, Future[TopicDescription]] = {name: Future() for name in names}

        def describe(name: str, view: TopicView) -> TopicDescription:
            allowed = self._allowed("topic", name) if include_authorized_operations else None
            partitions = [
                TopicPartitionInfo(
                    log.number,
                    None if leader is None else self._node(leader),  # type: ignore[arg-type]  # it is None there, too
                    [self._node(number) for number in log.replicas],
                    [self._node(number) for number in log.replicas if not self.cluster.brokers[number].is_known_down],
                )
                for log, (leader, _) in zip(view.topic.partitions, view.leaders, strict=False)
            ]
            return TopicDescription(name, _uuid(view.topic.id), False, partitions, allowed)

        self._ask_any(
            "DescribeTopics", lambda broker: broker.metadata(names).topics, futures, describe, request_timeout
        )
        return futures

    def describe_configs(
        self, resources: Sequence[ConfigResource], *, request_timeout: float = _REQUEST_SECS
    ) -> dict[ConfigResource, Future[dict[str, ConfigEntry]]]:
        """As AdminClient's, of topics and brokers."""
        futures: dict[ConfigResource, Future[dict[str, ConfigEntry]]] = {resource: Future() for resource in resources}

        def read(broker: Broker) -> dict[ConfigResource, Any]:
            views = broker.metadata([one.name for one in resources if one.restype == ResourceType.TOPIC]).topics
            return {resource: views.get(resource.name) for resource in resources}

        def describe(_resource: ConfigResource, view: TopicView | None) -> dict[str, ConfigEntry]:
            limit: int = self.cluster.coordinators.max_metadata_bytes
            return configuration_of_broker(limit) if view is None else configuration_of(view.topic)

        self._ask_any("DescribeConfigs", read, futures, describe, request_timeout)
        return futures

    def list_offsets(
        self,
        topic_partition_offsets: Mapping[TopicPartition, OffsetSpec],
        *,
        isolation_level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
        request_timeout: float = _REQUEST_SECS,
    ) -> dict[TopicPartition, Future[ListOffsetsResultInfo]]:
        """As AdminClient's."""
        futures: dict[TopicPartition, Future[ListOffsetsResultInfo]] = {p: Future() for p in topic_partition_offsets}
        specs = {(p.topic, p.partition): spec._value for p, spec in topic_partition_offsets.items()}
        committed_only = isolation_level == IsolationLevel.READ_COMMITTED
        end = self.scheduler.now + request_timeout

        def ask_leaders(failure: Any) -> None:
            by_leader: dict[int, dict[TopicPartition, Future[Any]]] = {}
            for partition, future in futures.items():
                leader = self._leader(partition.topic, partition.partition)
                if leader is None:
                    view = self._views.get(partition.topic)
                    _refuse({partition: future}, failure or self._why_no_leader(view, partition.partition))
                else:
                    by_leader.setdefault(leader, {})[partition] = future
            for leader, wanted in by_leader.items():
                read = partial(self._offsets_at, leader, specs, list(wanted), committed_only=committed_only)
                send = partial(self._send, leader, "ListOffsets", read)
                self._resolve(send, wanted, lambda _partition, info: info, end)

        topics = list(dict.fromkeys(topic for topic, _ in specs))

        def learn(answer: Any) -> None:
            if not isinstance(answer, int):
                self._views.update(answer.topics)
            ask_leaders(answer if isinstance(answer, int) else None)

        self._send_to_any("Metadata", lambda broker: broker.metadata(topics), learn, request_timeout)
        return futures

    def _offsets_at(
        self, leader: int, specs: Mapping[Place, int], wanted: Sequence[TopicPartition], *, committed_only: bool
    ) -> dict[TopicPartition, ListOffsetsResultInfo | ErrorCode]:
        broker = self.cluster.brokers[leader]
        answer: dict[TopicPartition, ListOffsetsResultInfo | ErrorCode] = {}
        for partition in wanted:
            place = partition.topic, partition.partition
            found = broker.list_offset(*place, specs[place], committed_only=committed_only)
            answer[partition] = found if isinstance(found, int) else ListOffsetsResultInfo(found[0], -1, found[1])
        return answer

    @staticmethod
    def _why_no_leader(view: TopicView | ErrorCode | None, partition: int) -> ErrorCode:
        if isinstance(view, int):
            return view
        if view is None:
            return KafkaError.UNKNOWN_TOPIC_OR_PART
        return KafkaError.LEADER_NOT_AVAILABLE if partition < len(view.leaders) else KafkaError._UNKNOWN_PARTITION

    # Groups

    def describe_consumer_groups(
        self,
        group_ids: Sequence[str],
        *,
        include_authorized_operations: bool = False,
        request_timeout: float = _REQUEST_SECS,
    ) -> dict[str, Future[ConsumerGroupDescription]]:
        """As AdminClient's."""
        futures: dict[str, Future[ConsumerGroupDescription]] = {name: Future() for name in group_ids}

        def describe(name: str, group: GroupDescription) -> ConsumerGroupDescription:
            members = [
                MemberDescription(
                    member.member_id,
                    member.client_id,
                    member.host,
                    MemberAssignment([TopicPartition(*place) for place in member.partitions]),
                    member.instance_id,
                )
                for member in group.members
            ]
            allowed = self._allowed("group", name) if include_authorized_operations else None
            state = _STATES.get(group.state, ConsumerGroupState.UNKNOWN)
            node = self._node(self.cluster.coordinator_broker(name) or 1)
            return ConsumerGroupDescription(name, False, members, "", state, node, allowed)

        for name, future in futures.items():
            self._ask_coordinator(
                "DescribeGroups",
                name,
                lambda name=name: {name: self.cluster.coordinator(name).describe()},  # type: ignore[misc]
                {name: future},
                describe,
                request_timeout,
            )
        return futures

    def alter_consumer_group_offsets(
        self, list_consumer_group_offsets: Sequence[ConsumerGroupTopicPartitions], *, request_timeout: float
    ) -> dict[str, Future[ConsumerGroupTopicPartitions]]:
        """As AdminClient's, of one group."""
        [request] = list_consumer_group_offsets
        name, wanted = request.group_id, request.topic_partitions or []
        future: Future[ConsumerGroupTopicPartitions] = Future()
        commits = {(p.topic, p.partition): Commit(p.offset, p.metadata or "") for p in wanted}

        def tell(_name: str, answer: Mapping[Place, ErrorCode | None]) -> ConsumerGroupTopicPartitions:
            places = [partition_outcome(place, c.offset, "", -1, answer[place]) for place, c in commits.items()]
            return ConsumerGroupTopicPartitions(name, places)

        def alter() -> dict[str, Any]:
            return {name: self.cluster.coordinator(name).alter(commits)}

        self._ask_coordinator("OffsetCommit", name, alter, {name: future}, tell, request_timeout)
        return {name: future}

    # Requests

    def _ask_any(
        self,
        api: str,
        handle: Callable[[Broker], Any],
        futures: Mapping[Any, Future[Any]],
        convert: Callable[[Any, Any], Any],
        secs: float,
    ) -> None:
        self._resolve(partial(self._send_to_any, api, handle), futures, convert, self.scheduler.now + secs)

    def _ask_coordinator(
        self,
        api: str,
        key: str,
        handle: Callable[[], Any],
        futures: Mapping[Any, Future[Any]],
        convert: Callable[[Any, Any], Any],
        secs: float,
    ) -> None:
        send = partial(self._send, Coordinator(key), api, handle)
        self._resolve(send, futures, convert, self.scheduler.now + secs)

    def _resolve(
        self,
        send: Callable[[Done, float], None],
        futures: Mapping[Any, Future[Any]],
        convert: Callable[[Any, Any], Any],
        end: float,
    ) -> None:
        """Send a request, again while no broker can be reached, and resolve futures from its answer by key."""

        def note(answer: Any) -> None:
            left = end - self.scheduler.now
            if isinstance(answer, int) and answer == KafkaError._TRANSPORT:
                if left > RECONNECT_SECS:
                    self._host.call_later(RECONNECT_SECS, self._resolve, send, futures, convert, end)
                else:
                    self._host.call_later(max(0.0, left), _refuse, futures, KafkaError._TIMED_OUT)
            elif isinstance(answer, int):
                _refuse(futures, answer)
            else:
                for key, future in futures.items():
                    if isinstance(answer[key], int):
                        _refuse({key: future}, answer[key])
                    else:
                        future.set_result(convert(key, answer[key]))

        send(note, end - self.scheduler.now)

    def _allowed(self, kind: Any, name: str) -> list[Any]:
        operations = [*(_OPERATIONS[operation] for operation in self.cluster.acl.allowed(kind, name)), *_ALWAYS[kind]]
        return [operation for operation in operations if kind == "topic" or operation != AclOperation.WRITE]

    def _node(self, number: int) -> Node:
        if number not in self._nodes:
            broker = self.cluster.brokers[number]
            self._nodes[number] = Node(number, broker.host, broker.port)
        return self._nodes[number]


def _refuse(futures: Mapping[Any, Future[Any]], code: ErrorCode) -> None:
    for future in futures.values():
        future.set_exception(KafkaException(KafkaError(code)))


def _uuid(topic_id: str) -> Uuid:
    raw = base64.urlsafe_b64decode(topic_id + "==")
    return Uuid(
        int.from_bytes(raw[:_WORD_BYTES], "big", signed=True), int.from_bytes(raw[_WORD_BYTES:], "big", signed=True)
    )
