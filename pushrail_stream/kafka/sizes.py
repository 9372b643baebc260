"""How large a record may be: what a topic takes, and how much of that a record takes.

Kafka compares the whole batch, compressed as it comes, with the topic's ``max.message.bytes``; where the topic has a
``compression.type`` of its own, also as it is stored. What it refuses is every record of the batch.
"""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.ports import Outgoing

BATCH_BYTES: Final = 1_000_000
"""librdkafka's default of ``batch.size``: of several records in one batch, before compression."""
_ASK_SECS: Final = 2.0
"""A broker in reach answers within milliseconds; librdkafka's built-in cluster never does."""
_BATCH_HEAD: Final = 61
"""Of a batch of format 2, before its records."""
_RECORD_HEAD: Final = 36
"""At most, of a record in it: length, attributes, deltas of time and offset, lengths of key and value, and how many
headers there are."""
_HEADER_HEAD: Final = 10
"""At most, of a header: the lengths of its name and its value."""


def max_message_bytes(options: KafkaOptions, topic: str) -> int | None:
    """The topic's ``max.message.bytes``; None where Kafka does not say, or may not be asked. Blocks a few seconds."""
    admin = AdminClient(options.admin() | {"error_cb": lambda _error: None})
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        entries = admin.describe_configs([resource], request_timeout=_ASK_SECS)[resource].result()
        return int(entries["max.message.bytes"].value)
    except (KafkaException, LookupError, ValueError, TypeError):
        return None


def largest_batch(record: Outgoing) -> int:
    """Bytes of a batch of this record alone, uncompressed; a few more rather than one too few."""
    headers = sum(_HEADER_HEAD + len(name.encode()) + len(value or b"") for name, value in record.headers)
    return _BATCH_HEAD + _RECORD_HEAD + len(record.key) + len(record.value) + headers
