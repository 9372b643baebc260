"""The deliveries that wait on retry topics."""

from __future__ import annotations

from collections.abc import Iterator

from pushrail_stream.core.offsets import decode_settled
from pushrail_stream.kafka.client_properties import retries_consumer
from pushrail_stream.kafka.groups import committed_by
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.operations.dead_letters import DeadLetterRecord, read_dead_letter
from pushrail_stream.operations.topic_reader import Progress, read_topic
from pushrail_stream.settings.model import Settings


def read_waiting(settings: Settings, progress: Progress) -> Iterator[DeadLetterRecord]:
    """The copies on retry topics that the workers' group has not settled. Raises `OperatorError`."""
    kafka = reached_kafka(settings)
    for topic in settings.topics.retry:
        group = committed_by(kafka, retries_consumer(kafka).group_id, topic)
        starts = {number: committed.offset for number, committed in group.items()}
        settled = {number: frozenset(decode_settled(committed)) for number, committed in group.items()}
        for record in read_topic(settings, topic, topic, progress, starts=starts):
            if record.offset not in settled.get(record.partition, ()):
                yield read_dead_letter(record, settings.vendor)
