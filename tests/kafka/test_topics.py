"""The configuration that each topic needs: new topics have it, and others are refused or warned about."""

from __future__ import annotations

import shlex
import subprocess
import time
import uuid
from collections.abc import Iterator
from typing import Any, Final

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.topic_rules import TopicFacts
from pushrail_stream.kafka.topics import check_topics, create_topics, describe_topics, plan_topics, topics_named
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import KafkaSettings, Settings
from tests.support.kafka import distribution
from tests.support.kafka.fixtures import LocalKafkaFactory
from tests.support.kafka.local import java_command
from tests.support.kafka.topics import create_topic, delete_topics

DELAY_SECS: Final = 1_800
ROLES: Final = ("events", "retry", "dlq", "attempts", "destinations", "replays")


def settings_of_its_own(**sections: Any) -> Settings:
    tag = uuid.uuid4().hex[:8]
    names: dict[str, Any] = {role: f"{tag}.{role}" for role in ROLES if role != "retry"}
    return Settings.model_validate({"topics": names | {"retry": {f"{tag}.retry": DELAY_SECS}}} | sections)


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
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        [described] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
        if value is None or described.result(20)[setting].value == value:
            return
    raise AssertionError(f"{topic} does not take {setting}")


@pytest.fixture(scope="module")
def installation(real_kafka: str) -> Iterator[Settings]:
    settings = settings_of_its_own()
    plans = plan_topics(settings, 2)
    create_topics(KafkaSettings(bootstrap_servers=real_kafka), plans, 1, dry_run=False)
    yield settings
    delete_topics(real_kafka, [plan.name for plan in plans])


@given(
    age_secs=st.floats(1, 604_800),
    delays=st.lists(st.floats(1, 604_800), min_size=1, max_size=3, unique=True),
    copies=st.integers(1, 5),
)
def test_created_topics_need_no_broker_defaults(age_secs: float, delays: list[float], copies: int) -> None:
    retry = {f"retry.{number}": delay for number, delay in enumerate(delays)}
    settings = Settings.model_validate({"topics": {"retry": retry}, "delivery": {"max_age_secs": age_secs}})
    kafkas = {
        "cleanup.policy": "delete",
        "retention.bytes": "-1",
        "unclean.leader.election.enable": "false",
        "min.insync.replicas": str(max(1, copies - 1)),
    }
    for plan in plan_topics(settings, 12):
        found = TopicFacts(plan.partitions, copies, {**kafkas, **plan.config})
        largest = int(plan_topics(settings)[0].config["max.message.bytes"]) + 64 * 2**10
        assert plan.deviations(found, brokers=min(copies, 3), copy_bytes=largest, servers="any") == []


def test_created_topics_have_no_deviations(real_kafka: str, installation: Settings) -> None:
    states = describe_topics(KafkaSettings(bootstrap_servers=real_kafka), plan_topics(installation))
    assert all(state is not None and not state.deviations and not state.unchecked for state in states.values())
    assert check_topics(KafkaSettings(bootstrap_servers=real_kafka), plan_topics(installation)) == []


@pytest.mark.parametrize(
    ("role", "setting", "value"),
    [
        ("destinations", "cleanup.policy", "delete"),
        ("destinations", "cleanup.policy", "compact,delete"),
        ("events", "cleanup.policy", "compact"),
        ("retry", "cleanup.policy", "compact,delete"),
        ("dlq", "cleanup.policy", "compact"),
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


def test_a_missing_controller_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of_its_own()
    plans = plan_topics(settings, 2)
    with EmbeddedBroker.start({plan.name: plan.partitions for plan in plans}) as broker:
        asked = list[object]()
        monkeypatch.setattr(AdminClient, "describe_configs", lambda *request, **_options: asked.append(request))
        [caveat] = check_topics(KafkaSettings(bootstrap_servers=broker.bootstrap_servers), plans)
        assert asked == [], "an answer would come only when the request's time is over"
    assert "could not be checked" in caveat.problem
    assert all(plan.name in caveat.problem for plan in plans)


def test_a_forbidden_description_is_no_error(local_kafka_factory: LocalKafkaFactory) -> None:
    kafka = local_kafka_factory(
        {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
        }
    )
    settings = settings_of_its_own()
    options = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
    plans = plan_topics(settings)
    create_topics(options, plans, 1, dry_run=False)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
    rules = [
        AclBinding(ResourceType.TOPIC, settings.topics.dlq, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", *may)
        for may in (
            (AclOperation.ALL, AclPermissionType.ALLOW),
            (AclOperation.DESCRIBE_CONFIGS, AclPermissionType.DENY),
        )
    ]
    for done in admin.create_acls(rules).values():
        done.result(20)
    deadline = time.monotonic() + 20  # the broker hears of the rules a moment later
    while not (caveats := check_topics(options, plans)) and time.monotonic() < deadline:
        continue
    [caveat] = caveats
    assert caveat.problem.startswith(f"{settings.topics.dlq}: could not be checked: ")
    assert "uthorization" in caveat.problem
