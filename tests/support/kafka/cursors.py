"""Cursors in the commits of a group, as a worker commits them."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import Consumer, TopicPartition

from pushrail_stream.core.commit import encode_metadata
from pushrail_stream.core.cursor_state import CursorState, encode_cursors
from pushrail_stream.kafka.client_properties import checked_kafka, reader
from pushrail_stream.settings.model import Settings


def commit_cursors(settings: Settings, partition: int, offset: int, cursors: Sequence[CursorState] | str) -> None:
    """Commit this offset of the events topic with these cursors, for the settings' group.

    A text stands for the cursors as the commit has them.
    """
    kafka = checked_kafka(settings)
    text = cursors if isinstance(cursors, str) else encode_cursors(list(cursors))
    metadata = encode_metadata(offset, [], cursors=text)
    place = TopicPartition(settings.topics.events, partition, offset, metadata)
    with Consumer(reader(kafka, kafka.group_id, {})) as consumer:
        consumer.commit(offsets=[place], asynchronous=False)
