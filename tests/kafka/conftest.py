"""Fixtures of this room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pushrail_stream.kafka.topics import create_topics, plan_topics
from pushrail_stream.settings.model import KafkaSettings, Settings
from tests.support.kafka.installation import settings_of_its_own
from tests.support.kafka.librdkafka import Known, known_properties
from tests.support.kafka.topics import delete_topics


@pytest.fixture(scope="module")
def installation(real_kafka: str) -> Iterator[Settings]:
    settings = settings_of_its_own()
    plans = plan_topics(settings, 2)
    create_topics(KafkaSettings(bootstrap_servers=real_kafka), plans, 1, dry_run=False)
    yield settings
    delete_topics(real_kafka, [plan.name for plan in plans])


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Known]:
    return known_properties(tmp_path_factory.mktemp("librdkafka"))
