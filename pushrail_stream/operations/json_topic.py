"""Reads topics of JSON objects, such as notices, for commands that look back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from pushrail_stream.core.text import parse_rfc3339
from pushrail_stream.operations.topic_reader import Progress, read_topic
from pushrail_stream.settings.model import Settings


def read_objects(
    settings: Settings, topic: str, subject: str, progress: Progress, *, time: str, since_ms: int
) -> Iterator[dict[str, Any]]:
    """The objects whose field ``time`` is at this time or later, in their order. Other records are left out.

    Raises `OperatorError` when Kafka cannot be reached, or the topic is missing.
    """
    for record in read_topic(settings, topic, subject, progress, since_ms=since_ms):
        try:
            value = orjson.loads(record.value or b"")
        except orjson.JSONDecodeError:
            continue
        at = value.get(time) if isinstance(value, dict) else None
        if isinstance(at, str) and (at_ms := parse_rfc3339(at)) is not None and at_ms >= since_ms:
            yield value
