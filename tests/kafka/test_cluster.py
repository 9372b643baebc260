"""Facts about a cluster: who it is, what it speaks, and what it allows."""

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

from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import cluster
from pushrail_stream.kafka.cluster import describe_cluster, missing_rights, security_of
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import KafkaSettings
from tests.support.kafka.fixtures import LocalKafkaFactory
from tests.support.kafka.topics import create_topic
from tests.support.patience import PATIENCE_SECS
from tests.support.ports import free_port

pytestmark = pytest.mark.kafka
READ = frozenset({"Read"})
WRITE = frozenset({"Write"})


def test_a_cluster_tells_its_versions_and_our_way_to_it(kafka_bootstrap: str) -> None:
    found = describe_cluster(KafkaSettings(bootstrap_servers=kafka_bootstrap))
    assert found.id
    assert found.brokers >= 1
    assert found.fetch_version is not None
    assert found.fetch_version >= 4
    assert found.client.startswith("2.")


def test_a_cluster_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushrail_stream.kafka.cluster._TIMEOUT_SECS", 0.2)
    with pytest.raises(OperatorError, match="Kafka does not answer: "):
        describe_cluster(KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}"))


@pytest.mark.parametrize(
    ("client", "security"),
    [
        ({}, "PLAINTEXT"),
        ({"security.protocol": "ssl"}, "SSL"),
        ({"security.protocol": "sasl_ssl", "sasl.mechanism": "PLAIN"}, "SASL_SSL with PLAIN"),
        ({"security.protocol": "SASL_SSL"}, "SASL_SSL with GSSAPI"),
    ],
)
def test_the_way_to_the_cluster_is_named(client: dict[str, str], security: str) -> None:
    assert security_of(KafkaSettings.model_validate({"client": client})) == security


def test_rights_are_not_known_without_a_controller(
    embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = KafkaSettings(bootstrap_servers=embedded_broker.bootstrap_servers)
    assert missing_rights(kafka, {}, ()) == [], "the embedded broker allows everything"
    monkeypatch.setattr(cluster, "is_embedded", lambda _: False)
    with pytest.raises(OperatorError, match="no controller"):
        missing_rights(kafka, {}, ())


def test_missing_rights_are_named(local_kafka_factory: LocalKafkaFactory) -> None:
    broker = local_kafka_factory(
        {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
        }
    ).bootstrap_servers
    kafka = KafkaSettings(bootstrap_servers=broker)
    for name in ("open", "hidden", "readable"):
        create_topic(broker, name)
    needed = {"open": READ | WRITE, "hidden": READ, "readable": READ | WRITE, "missing": READ}
    assert missing_rights(kafka, needed, ("ours", "theirs")) == []

    rules = [
        (ResourceType.TOPIC, "hidden", "User:nobody", AclOperation.ALL),
        (ResourceType.TOPIC, "readable", "User:ANONYMOUS", AclOperation.READ),
        (ResourceType.GROUP, "theirs", "User:nobody", AclOperation.ALL),
    ]
    admin = AdminClient({"bootstrap.servers": broker, "log_level": 0})
    bindings = [
        AclBinding(kind, name, ResourcePatternType.LITERAL, who, "*", operation, AclPermissionType.ALLOW)
        for kind, name, who, operation in rules
    ]
    for done in admin.create_acls(bindings).values():
        done.result(20)
    expected = ["Read on topic hidden", "Write on topic readable", "Read on group theirs"]
    end = time.monotonic() + PATIENCE_SECS  # the broker enforces rules a little later
    while (found := missing_rights(kafka, needed, ("ours", "theirs"))) != expected and time.monotonic() < end:
        time.sleep(0.1)
    assert found == expected
