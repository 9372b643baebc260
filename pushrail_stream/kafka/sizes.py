"""Sizes of records, and the largest that a topic takes.

Kafka compares the whole batch, compressed as it comes, with the topic's ``max.message.bytes``; where the topic has a
``compression.type`` of its own, also as it is stored. It refuses every record of a batch that is too large.
"""

from __future__ import annotations

from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from pushrail_stream.kafka.options import KafkaOptions
from pushrail_stream.ports.kafka import ProducerRecord

BATCH_BYTES: Final = 1_000_000
"""librdkafka's default of ``batch.size``: bytes of a batch of several records, before compression."""
_ASK_SECS: Final = 2.0
"""Longest wait for the answer. A broker in reach takes milliseconds; librdkafka's built-in cluster never answers."""
_BATCH_HEAD: Final = 61
"""Bytes of a batch of format 2 before its records."""
_RECORD_HEAD: Final = 36
"""Most bytes of a record besides key, value and headers: length, attributes, deltas of time and offset, lengths of key
and value, and the number of headers."""
_HEADER_HEAD: Final = 10
"""Most bytes of a header besides name and value: their lengths."""


def max_message_bytes(options: KafkaOptions, topic: str) -> int | None:
    """The topic's ``max.message.bytes``; None where Kafka does not say, or may not be asked. Blocks a few seconds."""
    admin = AdminClient(options.admin() | {"error_cb": lambda _error: None})
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        entries = admin.describe_configs([resource], request_timeout=_ASK_SECS)[resource].result()
        return int(entries["max.message.bytes"].value)
    except (KafkaException, LookupError, ValueError, TypeError):
        return None


def largest_batch(record: ProducerRecord) -> int:
    """Upper bound of the bytes of an uncompressed batch that holds this record alone."""
    headers = sum(_HEADER_HEAD + len(name.encode()) + len(value or b"") for name, value in record.headers)
    return _BATCH_HEAD + _RECORD_HEAD + len(record.key) + len(record.value) + headers
