"""Topics: which there must be, how they are made, and what is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.ports import Failed
from pushrail_stream.settings import Settings

_TIMEOUT_SECS: Final = 15.0
_ID_TIMEOUT_SECS: Final = 5.0
_DAY_MS: Final = 86_400_000
_MAX_EVENT_BYTES: Final = 2 * 2**20
"""Twice what EventBridge takes: an event that is too large still reaches the DLQ with its reason."""
_HEADROOM_BYTES: Final = 64 * 2**10
"""What the delivery headers add to a copy on a retry topic or the DLQ."""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as it should be made."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicNames:
    """The names in use."""

    events: str
    dlq: str
    attempts: str
    destinations: str
    replays: str
    retry: Sequence[str]

    def needed_to_run(self) -> tuple[str, ...]:
        """Without these a worker must not start: it could not deliver, or not keep what it gives up on."""
        return (self.events, *self.retry, self.dlq, self.attempts)


def topic_names(settings: Settings) -> TopicNames:
    """The topics in use, from the settings."""
    topics = settings.topics
    return TopicNames(
        topics.events, topics.dlq, topics.attempts, topics.destinations, topics.replays, tuple(topics.retry)
    )


class TopicState(NamedTuple):
    """A topic as it is."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]


def plan_topics(names: TopicNames, partitions: int) -> list[TopicPlan]:
    """All topics of an installation, with sensible retention and sizes."""
    event_bytes = {"max.message.bytes": str(_MAX_EVENT_BYTES)}
    copy_bytes = {"max.message.bytes": str(_MAX_EVENT_BYTES + _HEADROOM_BYTES)}
    week, fortnight = {"retention.ms": str(7 * _DAY_MS)}, {"retention.ms": str(14 * _DAY_MS)}
    return [
        TopicPlan(names.events, partitions, event_bytes | week),
        *(TopicPlan(name, partitions, copy_bytes | week) for name in names.retry),
        TopicPlan(names.dlq, partitions, copy_bytes | fortnight),
        TopicPlan(names.attempts, partitions, week),
        TopicPlan(names.destinations, 1, {"cleanup.policy": "compact"}),
        # A dead letter that is still there must not look as if it had never been replayed, and Kafka deletes by whole
        # segments: in a quiet partition dead letters stay weeks beyond their time. So marks are kept much longer.
        TopicPlan(names.replays, 1, {"cleanup.policy": "compact,delete", "retention.ms": str(90 * _DAY_MS)}),
    ]


def create_topics(
    options: KafkaOptions, plans: Iterable[TopicPlan], replication: int | None, *, dry_run: bool
) -> dict[str, str]:
    """Make what is missing; name -> ``created`` or ``exists``. ``replication`` None: 3, or the number of brokers.

    Raises `Failed` when Kafka cannot be reached or refuses.
    """
    admin = AdminClient(options.admin())
    brokers = _metadata(admin, options)
    factor = replication or min(3, len(brokers.brokers))
    min_isr = {"min.insync.replicas": str(max(1, factor - 1))}
    wanted = [
        NewTopic(p.name, p.partitions, factor, config=dict(p.config) | min_isr)
        for p in plans
        if p.name not in brokers.topics
    ]
    states = {plan.name: "exists" for plan in plans}
    if wanted:
        for name, made in admin.create_topics(wanted, validate_only=dry_run, request_timeout=_TIMEOUT_SECS).items():
            states[name] = _outcome(name, made)
    return states


def describe_topics(options: KafkaOptions, names: Iterable[str]) -> dict[str, TopicState | None]:
    """What is there; None for a topic that is missing. Raises `Failed` when Kafka cannot be reached."""
    admin = AdminClient(options.admin())
    known = _metadata(admin, options).topics
    there = [name for name in names if name in known]
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in there]
    configs: dict[str, dict[str, str]] = {}
    if resources:
        for resource, described in admin.describe_configs(resources, request_timeout=_TIMEOUT_SECS).items():
            entries = _result(f"describing {resource.name}", described)
            configs[resource.name] = {name: entry.value for name, entry in entries.items() if not entry.is_default}
    return {
        name: TopicState(name, len(known[name].partitions), _replication(known[name]), configs[name])
        if name in there
        else None
        for name in names
    }


def topic_id(options: KafkaOptions, name: str) -> str | None:
    """What tells a topic from another of the same name, before or after it; None where Kafka does not say."""
    admin = AdminClient(options.admin() | {"error_cb": lambda _error: None})
    described = admin.describe_topics(TopicCollection([name]), request_timeout=_ID_TIMEOUT_SECS)[name]
    try:
        return str(described.result().topic_id)
    except KafkaException:
        return None


def check_topics(options: KafkaOptions, names: Iterable[str]) -> None:
    """Raise `Failed` when Kafka cannot be reached or a topic is missing, saying what to do."""
    known = _metadata(AdminClient(options.admin()), options).topics
    missing = [name for name in names if name not in known]
    if missing:
        what = f"topic {missing[0]} does" if len(missing) == 1 else f"topics {', '.join(missing)} do"
        raise Failed(f"{what} not exist at {options.bootstrap_servers}; `pushrail-stream topics create` makes them")


def _metadata(admin: AdminClient, options: KafkaOptions) -> Any:
    try:
        return admin.list_topics(timeout=_TIMEOUT_SECS)
    except KafkaException as error:
        raise Failed(
            f"Kafka cannot be reached at {options.bootstrap_servers} ({error.args[0].str()}); "
            "check kafka.bootstrap_servers and kafka.client"
        ) from error


def _outcome(name: str, made: Future[None]) -> str:
    try:
        made.result()
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return "exists"
        raise Failed(f"topic {name} could not be created: {error.args[0].str()}") from error
    return "created"


def _result(doing: str, future: Future[Any]) -> Any:
    try:
        return future.result()
    except KafkaException as error:
        raise Failed(f"{doing} failed: {error.args[0].str()}") from error


def _replication(topic: Any) -> int:
    return max((len(partition.replicas) for partition in topic.partitions.values()), default=0)
