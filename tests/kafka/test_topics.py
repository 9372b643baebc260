"""The configuration that each topic needs: new topics have it, and others are refused or warned about."""

from __future__ import annotations

import time

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import topics
from pushrail_stream.kafka.topic_rules import TopicFacts, TopicPlan
from pushrail_stream.kafka.topics import check_topics, create_topics, describe_topics, plan_topics
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import KafkaSettings, Settings
from tests.support.kafka.fixtures import LocalKafkaFactory
from tests.support.kafka.installation import settings_of_its_own
from tests.support.patience import PATIENCE_SECS


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


def test_a_missing_controller_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of_its_own()
    plans = plan_topics(settings, 2)
    with EmbeddedBroker.start({plan.name: plan.partitions for plan in plans}) as broker:
        asked = list[object]()
        monkeypatch.setattr(AdminClient, "describe_configs", lambda *request, **_options: asked.append(request))
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        assert check_topics(kafka, plans) == [], "the embedded broker has nothing to check"
        monkeypatch.setattr(topics, "is_embedded", lambda _: False)
        [caveat] = check_topics(kafka, plans)
        assert asked == [], "an answer would come only when the request's time is over"
        missing = TopicPlan("missing", 1)
        with pytest.raises(OperatorError, match=r"^missing cannot be created: the cluster has no controller"):
            create_topics(
                KafkaSettings(bootstrap_servers=broker.bootstrap_servers), [*plans, missing], 1, dry_run=False
            )
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
    deadline = time.monotonic() + PATIENCE_SECS  # the broker hears of the rules a moment later
    while not (caveats := check_topics(options, plans)) and time.monotonic() < deadline:
        continue
    [caveat] = caveats
    assert caveat.problem.startswith(f"{settings.topics.dlq}: could not be checked: ")
    assert "uthorization" in caveat.problem
