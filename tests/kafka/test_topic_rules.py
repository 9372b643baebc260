"""The rules for the configuration of topics: a lossy one is refused, a risky one is reported."""

from __future__ import annotations

import shlex
import subprocess
import time

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.topics import check_topics, describe_topics, plan_topics, topics_named
from pushrail_stream.settings.model import KafkaSettings, Settings
from tests.support.kafka import distribution
from tests.support.kafka.installation import DELAY_SECS, settings_of_its_own
from tests.support.kafka.local import java_command
from tests.support.kafka.topics import create_topic, delete_topics
from tests.support.patience import PATIENCE_SECS


def name_of(settings: Settings, role: str) -> str:
    return str(next(iter(settings.topics.retry)) if role == "retry" else getattr(settings.topics, role))


def alter(bootstrap: str, topic: str, setting: str, value: str | None) -> None:
    """Set a topic's setting, or take it back (None), and wait until a broker says so."""
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
    entry = ConfigEntry(setting, value, incremental_operation=operation)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    [done] = admin.incremental_alter_configs([resource]).values()
    done.result(20)
    deadline = time.monotonic() + PATIENCE_SECS
    while time.monotonic() < deadline:
        [described] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
        if value is None or described.result(20)[setting].value == value:
            return
    raise AssertionError(f"{topic} does not take {setting}")


@pytest.mark.parametrize(
    ("role", "setting", "value"),
    [
        ("destinations", "cleanup.policy", "delete"),
        ("destinations", "cleanup.policy", "compact,delete"),
        ("events", "cleanup.policy", "compact"),
        ("retry", "cleanup.policy", "compact,delete"),
        ("dlq", "cleanup.policy", "compact"),
        ("cursors", "cleanup.policy", "compact"),
        ("retry", "retention.ms", str(DELAY_SECS * 1000)),
    ],
)
def test_a_lossy_topic_is_refused_with_a_remedy(
    role: str, setting: str, value: str, real_kafka: str, installation: Settings
) -> None:
    topic = name_of(installation, role)
    [plan] = topics_named(installation, topic)
    alter(real_kafka, topic, setting, value)
    try:
        with pytest.raises(OperatorError) as refused:
            check_topics(KafkaSettings(bootstrap_servers=real_kafka), plan_topics(installation))
    finally:
        alter(real_kafka, topic, setting, plan.config.get(setting))
    said = str(refused.value)
    assert said.startswith(f"topic {topic}: {setting} is {value}, and must be ")
    assert (
        f"kafka-configs.sh --bootstrap-server {real_kafka} --alter --entity-type topics --entity-name {topic} " in said
    )


@pytest.mark.parametrize(
    ("role", "setting", "value"),
    [
        ("attempts", "cleanup.policy", "compact"),
        ("replays", "cleanup.policy", "delete"),
        ("replays", "retention.ms", "86400000"),
        ("events", "retention.ms", "3600000"),
        ("events", "retention.bytes", "1000000"),
        ("retry", "retention.ms", str(DELAY_SECS * 1000 + 60_000)),
        ("retry", "retention.bytes", "1000000"),
        ("dlq", "retention.ms", "3600000"),
        ("cursors", "retention.ms", "3600000"),
        ("cursors", "retention.bytes", "1000000"),
        ("dlq", "max.message.bytes", "1048588"),
        ("events", "max.message.bytes", "8000000"),
        ("events", "unclean.leader.election.enable", "true"),
    ],
)
def test_a_risky_configuration_is_a_caveat(
    role: str, setting: str, value: str, real_kafka: str, installation: Settings
) -> None:
    topic = name_of(installation, role)
    [plan] = topics_named(installation, topic)
    alter(real_kafka, topic, setting, value)
    try:
        caveats = check_topics(KafkaSettings(bootstrap_servers=real_kafka), plan_topics(installation))
    finally:
        alter(real_kafka, topic, setting, plan.config.get(setting))
    assert caveats
    if (role, setting) == ("events", "max.message.bytes"):  # copies of larger events do not fit their topics
        assert all(": max.message.bytes is " in caveat.problem for caveat in caveats)
        assert all(topic not in caveat.problem for caveat in caveats)
    else:
        assert all(caveat.problem.startswith(f"topic {topic}: {setting} is {value}, ") for caveat in caveats)


def test_documents_need_one_partition(real_kafka: str) -> None:
    settings = settings_of_its_own()
    topic = settings.topics.destinations
    create_topic(real_kafka, topic, partitions=3, config={"cleanup.policy": "compact"})
    with pytest.raises(OperatorError, match=rf"^topic {topic}: partitions is 3, and must be 1\. .*topics create"):
        check_topics(KafkaSettings(bootstrap_servers=real_kafka), topics_named(settings, topic))
    delete_topics(real_kafka, [topic])


@pytest.mark.skipif(distribution.missing() is not None, reason="Kafka's tools come with a local Kafka")
@pytest.mark.parametrize(("role", "value"), [("destinations", "delete"), ("replays", "delete"), ("dlq", "compact")])
def test_the_suggested_command_mends_the_topic(role: str, value: str, real_kafka: str, installation: Settings) -> None:
    topic = name_of(installation, role)
    alter(real_kafka, topic, "cleanup.policy", value)
    plans = plan_topics(installation)
    state = describe_topics(KafkaSettings(bootstrap_servers=real_kafka), plans)[topic]
    assert state is not None
    script, *arguments = shlex.split(state.deviations[0].remedy)
    assert script == "kafka-configs.sh"
    java = java_command(distribution.ensure_jars())
    subprocess.run([*java, "kafka.admin.ConfigCommand", *arguments], check=True, capture_output=True, timeout=60)
    assert check_topics(KafkaSettings(bootstrap_servers=real_kafka), plans) == []
