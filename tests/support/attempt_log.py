"""A delivery log in Kafka, with and without its index."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from confluent_kafka import Producer

from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.operations.times import now_ms
from pushrail_stream.settings.model import Settings
from tests.support.attempt_records import said
from tests.support.commands import Desk
from tests.support.workers import make_topics, settings_for


def with_index(desk: Desk, path: Path) -> None:
    values = yaml.safe_load(desk.config.read_text())
    values["history"]["index"] = str(path)
    desk.config.write_text(yaml.safe_dump(values))


def log_of(bootstrap: str, home: Path) -> tuple[Settings, Desk]:
    """An installation with a delivery log and without a worker."""
    settings = settings_for(bootstrap, "http://127.0.0.1:1")
    make_topics(settings)
    return settings, Desk(home, settings)


def write(settings: Settings, numbers: Iterable[int], *, at_ms: int | None = None, key: str = "") -> None:
    """Attempts of these numbers, made then and written then by that clock; else a few ms after one another, lately."""
    config: dict[str, Any] = {"bootstrap.servers": settings.kafka.bootstrap_servers, "linger.ms": 20, "log_level": 0}
    producer = Producer(config)
    lately = now_ms() - 600_000
    for number in numbers:
        made_ms = lately + number if at_ms is None else at_ms
        value = json.dumps(said(number, at=format_rfc3339(made_ms))).encode()
        producer.produce(settings.topics.attempts, value, key or f"dst_{number % 7}", timestamp=made_ms)
        producer.poll(0)
    assert producer.flush(60) == 0


async def both(desk: Desk, *words: str) -> tuple[str, str]:
    """A command's stdout and its stderr."""
    code, out, err = await desk.end(*words)
    assert code == 0, err
    return out, err
