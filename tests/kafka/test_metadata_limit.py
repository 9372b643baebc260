"""The brokers' limit of a commit's metadata is known, or it is known that it is not."""

from __future__ import annotations

import pytest

from pushrail_stream.kafka.metadata_limit import metadata_limit
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.client import ClientProperties
from pushrail_stream.settings.model import KafkaSettings
from tests.support.kafka.fixtures import LocalKafkaFactory


@pytest.mark.kafka
def test_brokers_tell_their_limit(real_kafka: str, local_kafka_factory: LocalKafkaFactory) -> None:
    assert metadata_limit(KafkaSettings(bootstrap_servers=real_kafka)) == 4096
    small = local_kafka_factory({"offset.metadata.max.bytes": "60"})
    assert metadata_limit(KafkaSettings(bootstrap_servers=small.bootstrap_servers)) == 60


def test_a_broker_that_does_not_tell_has_no_limit(embedded_broker: EmbeddedBroker) -> None:
    assert metadata_limit(KafkaSettings(bootstrap_servers=embedded_broker.bootstrap_servers)) is None


def test_a_broker_that_does_not_answer_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushrail_stream.kafka.metadata_limit._TIMEOUT_SECS", 0.2)
    nobody = KafkaSettings(bootstrap_servers="127.0.0.1:1", client=ClientProperties({"socket.timeout.ms": 1_000}))
    assert metadata_limit(nobody) is None
