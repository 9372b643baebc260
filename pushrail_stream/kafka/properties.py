"""The librdkafka properties that only one kind of client knows.

librdkafka warns of a consumer's property in a producer and of a producer's property in a consumer, so each client gets
its own kind's alone. The names are the lines marked C and P in librdkafka's CONFIGURATION.md, without the properties
that `settings.client` refuses. A test compares them with the installed library. An admin client is a producer that
sends nothing.
"""

from __future__ import annotations

from typing import Final

CONSUMER_ONLY: Final = frozenset(
    {
        "auto.offset.reset",
        "check.crcs",
        "coordinator.query.interval.ms",
        "fetch.error.backoff.ms",
        "fetch.max.bytes",
        "fetch.message.max.bytes",
        "fetch.min.bytes",
        "fetch.queue.backoff.ms",
        "fetch.wait.max.ms",
        "group.protocol.type",
        "group.remote.assignor",
        "heartbeat.interval.ms",
        "max.partition.fetch.bytes",
        "max.poll.interval.ms",
        "queued.max.messages.kbytes",
        "queued.min.messages",
        "session.timeout.ms",
    }
)
PRODUCER_ONLY: Final = frozenset(
    {
        "batch.num.messages",
        "batch.size",
        "compression.codec",
        "compression.level",
        "compression.type",
        "enable.gapless.guarantee",
        "linger.ms",
        "message.send.max.retries",
        "partitioner",
        "queue.buffering.backpressure.threshold",
        "queue.buffering.max.kbytes",
        "queue.buffering.max.messages",
        "queue.buffering.max.ms",
        "queuing.strategy",
        "request.timeout.ms",
        "retries",
        "sticky.partitioning.linger.ms",
    }
)
