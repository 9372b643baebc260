"""Topics: the required ones, how they are created, and how they differ from their plans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from pushrail_stream.core.signals import SettingCaveat
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.admin import has_controller, is_embedded
from pushrail_stream.kafka.topic_rules import (
    DAY_MS,
    Deviation,
    TopicFacts,
    TopicPlan,
    keeps_all,
    keeps_any_amount,
    keeps_for,
    keeps_latest,
    keeps_latest_for_a_time,
    retention_ms,
)
from pushrail_stream.settings.model import KafkaSettings, Settings

_TIMEOUT_SECS: Final = 15.0
_CONFIG_TIMEOUT_SECS: Final = 5.0
"""Longest wait of a start for the topics' configuration. Without it they are not checked."""
_MAX_EVENT_BYTES: Final = 2 * 2**20
"""Largest event: twice the limit of EventBridge, so that an event that is too large still reaches the DLQ."""
_HEADROOM_BYTES: Final = 64 * 2**10
"""The most that the delivery headers add to a copy on a retry topic or the DLQ."""
_MAX_CURSORS_BYTES: Final = 16 * 2**20
"""Largest snapshot of cursors, compressed: one of ten thousand destinations has about 1 MiB."""
_COPY_BYTES: Final = {"max.message.bytes": str(_MAX_EVENT_BYTES + _HEADROOM_BYTES)}
NOBODY_TO_ASK: Final = "the cluster has no controller that could be asked"
EMBEDDED: Final = "the embedded Kafka keeps no settings of topics"
"""Why the topics of an embedded broker cannot be checked: it has no controller."""
_MINUTE_MS: Final = 60_000
_AUDIT_DAYS: Final = 365
"""Days for which audit records are kept: audits look back for a year."""
_MAX_AUDIT_BYTES: Final = 16 * 2**20
"""Largest audit record: a command may change ten thousands of documents."""
_NOTICES_DAYS: Final = 30
"""Days for which notices are kept: they are few, and a reader may be away for weeks."""
_ONE_A_KEY: Final = "Of the records with one key Kafka keeps the last one only"


class TopicState(NamedTuple):
    """A topic as it is."""

    name: str
    partitions: int
    replication: int
    config: Mapping[str, str]
    """Settings that are not Kafka's defaults."""
    deviations: Sequence[Deviation]
    unchecked: str
    """Why the configuration could not be read; empty when it could."""


def plan_topics(settings: Settings, partitions: int = 1) -> list[TopicPlan]:
    """All topics of an installation, with the configuration they need."""
    topics, age_ms = settings.topics, settings.delivery.max_age_secs * 1000
    return [
        TopicPlan(
            topics.events,
            partitions,
            {"max.message.bytes": str(_MAX_EVENT_BYTES), "retention.ms": str(retention_ms(age_ms))},
            (
                keeps_all(_ONE_A_KEY),
                keeps_for(age_ms, "Kafka may remove events that no worker has read, or that wait for a destination"),
                keeps_any_amount("Kafka removes the oldest events when there are many, read or not"),
            ),
            holds_events=True,
        ),
        *(_retry_topic(name, delay * 1000, age_ms, partitions) for name, delay in topics.retry.items()),
        TopicPlan(
            topics.dlq,
            partitions,
            _COPY_BYTES | {"retention.ms": str(max(14 * DAY_MS, retention_ms(age_ms)))},
            (
                keeps_all(_ONE_A_KEY),
                keeps_for(age_ms, "Kafka removes dead letters before anybody can look after them"),
                keeps_any_amount("Kafka removes the oldest dead letters when there are many"),
            ),
            holds_copies=True,
        ),
        TopicPlan(
            topics.attempts,
            partitions,
            {"retention.ms": str(retention_ms(0))},
            (keeps_all(f"{_ONE_A_KEY}: `attempts` and `check` do not see the others", loses_data=False),),
        ),
        TopicPlan(
            topics.destinations,
            1,
            {"cleanup.policy": "compact"},
            (keeps_latest("Kafka removes documents, and events of their customers are skipped"),),
            one_partition="A document and its deletion may lie in different partitions, and it comes back",
        ),
        _replays_topic(topics.replays),
        _workers_topic(topics.workers),
        _control_topic(topics.control),
        _cursors_topic(topics.cursors, age_ms),
        TopicPlan(
            topics.notices,
            1,
            {"retention.ms": str(_NOTICES_DAYS * DAY_MS)},
            (keeps_all("Of the notices about one destination Kafka keeps the last one only", loses_data=False),),
        ),
        TopicPlan(
            topics.audit,
            1,
            {"max.message.bytes": str(_MAX_AUDIT_BYTES), "retention.ms": str(_AUDIT_DAYS * DAY_MS)},
            (keeps_all("Of the commands with one name Kafka keeps the last one only", loses_data=False),),
        ),
    ]


def _retry_topic(name: str, delay_ms: float, age_ms: float, partitions: int) -> TopicPlan:
    # After its delay a delivery may wait for workers that are down, at most until the age at which it is given up.
    least_ms = delay_ms + age_ms
    return TopicPlan(
        name,
        partitions,
        _COPY_BYTES | {"retention.ms": str(retention_ms(least_ms))},
        (
            keeps_all(_ONE_A_KEY),
            keeps_for(delay_ms + 1, "Kafka removes deliveries before they are due", loses_data=True),
            keeps_for(least_ms, "Kafka may remove deliveries that wait, before max_age_secs is over"),
            keeps_any_amount("Kafka removes the oldest deliveries when many wait"),
        ),
        holds_copies=True,
    )


def _replays_topic(name: str) -> TopicPlan:
    # A mark must outlast its dead letter, or the letter would seem never replayed. Kafka deletes whole segments, so
    # dead letters of a quiet partition stay weeks beyond their time. So marks are kept much longer.
    return TopicPlan(
        name,
        1,
        {"cleanup.policy": "compact,delete", "retention.ms": str(90 * DAY_MS)},
        (
            keeps_latest_for_a_time("Marks of replays are kept many times over"),
            keeps_for(60 * DAY_MS, "A dead letter whose mark has gone is replayed twice"),
        ),
    )


def _workers_topic(name: str) -> TopicPlan:
    # Each worker replaces its record every few seconds, and every reader reads the whole topic. Small segments are
    # compacted soon. A record of a worker that was killed goes after a day or two.
    return TopicPlan(
        name,
        1,
        {
            "cleanup.policy": "compact,delete", "retention.ms": str(DAY_MS), "segment.bytes": str(16 * 2**20),
            "segment.ms": str(10 * _MINUTE_MS), "min.cleanable.dirty.ratio": "0.1",
            "delete.retention.ms": str(60 * _MINUTE_MS),
        },
        (keeps_latest_for_a_time("Old states of workers are kept, and commands take long to read them"),),
    )  # fmt: skip


def _control_topic(name: str) -> TopicPlan:
    return TopicPlan(
        name,
        1,
        {"retention.ms": str(60 * _MINUTE_MS), "segment.ms": str(60 * _MINUTE_MS)},
        (keeps_all("A request may replace another one before every worker has read it", loses_data=False),),
    )


def _cursors_topic(name: str, age_ms: float) -> TopicPlan:
    # A commit names one record, which need not be the newest of its key: compaction might remove it.
    return TopicPlan(
        name,
        1,
        {"max.message.bytes": str(_MAX_CURSORS_BYTES), "retention.ms": str(retention_ms(age_ms))},
        (
            keeps_all("Kafka may remove the cursors that a commit names, and the partition stands still"),
            keeps_for(age_ms, "Kafka may remove the cursors that a commit names, and the partition stands still"),
            keeps_any_amount("Kafka may remove the cursors that a commit names, and the partition stands still"),
        ),
    )


def topics_named(settings: Settings, *names: str) -> list[TopicPlan]:
    """The installation's topics of these names."""
    return [plan for plan in plan_topics(settings) if plan.name in names]


def worker_topics(settings: Settings) -> list[TopicPlan]:
    """The topics that a worker reads and writes. It needs all of them."""
    topics = settings.topics
    documents = [topics.destinations] if settings.registry.topic else []
    return topics_named(settings, topics.events, *topics.retry, topics.dlq, topics.attempts, topics.cursors, *documents)


def create_topics(
    kafka: KafkaSettings, plans: Iterable[TopicPlan], replication: int | None, *, dry_run: bool
) -> dict[str, str]:
    """Create missing topics; name -> ``created`` or ``exists``. ``replication`` None: 3, or the number of brokers.

    Raises `OperatorError` when Kafka cannot be reached or refuses.
    """
    admin = AdminClient(client_properties.admin(kafka))
    brokers = _metadata(admin, kafka)
    factor = replication or min(3, len(brokers.brokers))
    min_isr = {"min.insync.replicas": str(max(1, factor - 1))}
    wanted = [
        NewTopic(p.name, p.partitions, factor, config=dict(p.config) | min_isr)
        for p in plans
        if p.name not in brokers.topics
    ]
    states = {plan.name: "exists" for plan in plans}
    if wanted and not has_controller(brokers):
        raise OperatorError(f"{', '.join(topic.topic for topic in wanted)} cannot be created: {NOBODY_TO_ASK}")
    if wanted:
        for name, made in admin.create_topics(wanted, validate_only=dry_run, request_timeout=_TIMEOUT_SECS).items():
            try:
                made.result()
                states[name] = "created"
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise OperatorError(f"topic {name} could not be created: {error.args[0].str()}") from error
    return states


def describe_topics(kafka: KafkaSettings, plans: Sequence[TopicPlan]) -> dict[str, TopicState | None]:
    """The topics by name, with their deviations from ``plans``; None for a topic that is missing.

    Raises `OperatorError` when Kafka cannot be reached, but not when a configuration cannot be read.
    """
    admin = AdminClient(client_properties.admin(kafka))
    cluster = _metadata(admin, kafka)
    found = [plan for plan in plans if plan.name in cluster.topics]
    configs = _configs(admin, cluster, [plan.name for plan in found])
    copy_bytes = _largest_copy(found, configs)
    states: dict[str, TopicState | None] = {plan.name: None for plan in plans}
    for plan in found:
        partitions, config = cluster.topics[plan.name].partitions, configs[plan.name]
        replication = max((len(partition.replicas) for partition in partitions.values()), default=0)
        facts = TopicFacts(len(partitions), replication, {n: e.value for n, e in config.entries.items()})
        own = {n: e.value for n, e in config.entries.items() if not e.is_default}
        deviations = plan.deviations(
            facts, brokers=len(cluster.brokers), copy_bytes=copy_bytes, servers=kafka.bootstrap_servers
        )
        states[plan.name] = TopicState(plan.name, facts.partitions, replication, own, deviations, config.unchecked)
    return states


def check_topics(kafka: KafkaSettings, plans: Sequence[TopicPlan]) -> list[SettingCaveat]:
    """Deviations that lose no data, and topics that could not be checked.

    Raises `OperatorError` when Kafka cannot be reached, a topic is missing, or its configuration can lose data.
    """
    states = describe_topics(kafka, plans)
    missing = [name for name, state in states.items() if state is None]
    if missing:
        what = f"topic {missing[0]} does" if len(missing) == 1 else f"topics {', '.join(missing)} do"
        raise OperatorError(
            f"{what} not exist at {kafka.bootstrap_servers}, or may not be described by this user; "
            "`pushrail-stream topics create` creates missing topics"
        )
    found = [state for state in states.values() if state is not None]
    deviations = [deviation for state in found for deviation in state.deviations]
    if losing := [str(deviation) for deviation in deviations if deviation.loses_data]:
        raise OperatorError("\n".join(losing))
    unchecked = {why: names for why, names in unchecked_topics(found).items() if why != EMBEDDED}
    return [
        *(SettingCaveat("topics", str(deviation)) for deviation in deviations),
        *(SettingCaveat("topics", f"{', '.join(n)}: could not be checked: {why}") for why, n in unchecked.items()),
    ]


def unchecked_topics(states: Iterable[TopicState | None]) -> dict[str, list[str]]:
    """The names of topics whose configuration could not be read, by the reason."""
    found: dict[str, list[str]] = {}
    for state in states:
        if state and state.unchecked:
            found.setdefault(state.unchecked, []).append(state.name)
    return found


def _metadata(admin: AdminClient, kafka: KafkaSettings) -> Any:
    try:
        return admin.list_topics(timeout=_TIMEOUT_SECS)
    except KafkaException as error:
        raise OperatorError(
            f"Kafka cannot be reached at {kafka.bootstrap_servers} ({error.args[0].str()}); "
            "check kafka.bootstrap_servers and kafka.client"
        ) from error


class _Config(NamedTuple):
    """Every setting of a topic that is in force, or the reason why they cannot be read."""

    entries: Mapping[str, Any]
    unchecked: str = ""


def _configs(admin: AdminClient, cluster: Any, names: Sequence[str]) -> dict[str, _Config]:
    if not has_controller(cluster):
        return dict.fromkeys(names, _Config({}, EMBEDDED if is_embedded(cluster) else NOBODY_TO_ASK))
    configs: dict[str, _Config] = {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    described = admin.describe_configs(resources, request_timeout=_CONFIG_TIMEOUT_SECS) if resources else {}
    for resource, answer in described.items():
        try:
            configs[resource.name] = _Config(answer.result())
        except KafkaException as error:
            configs[resource.name] = _Config({}, error.args[0].str())
    return configs


def _largest_copy(plans: Sequence[TopicPlan], configs: Mapping[str, _Config]) -> int | None:
    """The size of a copy of the largest event; None if it is not known."""
    for plan in plans:
        if plan.holds_events and "max.message.bytes" in configs[plan.name].entries:
            return int(configs[plan.name].entries["max.message.bytes"].value) + _HEADROOM_BYTES
    return None
