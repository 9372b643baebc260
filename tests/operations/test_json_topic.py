"""Topics of JSON objects are read from a time on; other records are left out."""

from __future__ import annotations

import pytest
from confluent_kafka import Producer

from pushrail_stream.cli.progress import ProgressBar
from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.errors import OperatorError
from pushrail_stream.operations.json_topic import read_objects
from pushrail_stream.operations.times import now_ms
from pushrail_stream.settings.model import Settings
from tests.support.workers import make_topics, settings_for

pytestmark = pytest.mark.kafka


def read(settings: Settings, topic: str, since_ms: int) -> list[object]:
    with ProgressBar(quiet=True) as progress:
        found = read_objects(settings, topic, "notices", progress, time="at", since_ms=since_ms)
        return [value["n"] for value in found]


def test_objects_of_a_time_are_read(real_kafka: str) -> None:
    settings = settings_for(real_kafka, "http://127.0.0.1:1")
    make_topics(settings)
    now, topic = now_ms(), settings.topics.notices
    producer = Producer({"bootstrap.servers": real_kafka, "log_level": 0})
    for value in (
        f'{{"at": "{format_rfc3339(now - 60_000)}", "n": 1}}', f'{{"at": "{format_rfc3339(now)}", "n": 2}}', "[]", "{",
        '{"at": 7, "n": 3}', '{"at": "then", "n": 4}', None, f'{{"at": "{format_rfc3339(now + 1)}", "n": 5}}',
    ):  # fmt: skip
        producer.produce(topic, value, "key")
    assert producer.flush(60) == 0
    assert read(settings, topic, 0) == [1, 2, 5]
    assert read(settings, topic, now) == [2, 5]
    with pytest.raises(OperatorError, match=r"no.such.topic cannot be read"):
        read(settings, "no.such.topic", 0)
