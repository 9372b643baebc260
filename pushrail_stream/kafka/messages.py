"""Librdkafka's messages as our records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from confluent_kafka import Message

from pushrail_stream.core.record import Record


def records_of(messages: Iterable[Message]) -> list[Record]:
    """The records of messages, none of which may be an error."""
    # A message without an error has them all; the library's types allow for the others.
    return [
        Record(
            cast("str", message.topic()),
            cast("int", message.partition()),
            cast("int", message.offset()),
            message.key(),
            message.value(),
            tuple(cast("list[tuple[str, bytes | None]]", message.headers() or ())),
            message.timestamp()[1],
        )
        for message in messages
    ]
