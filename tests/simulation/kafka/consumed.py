"""The output of a consumer for the application: messages, and partitions with errors.

They are the library's own objects wherever its constructors allow that.
"""

from __future__ import annotations

from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from tests.simulation.kafka.partition_log import ErrorCode, LogRecord

_CREATE_TIME: Final = 1
"""The type of timestamps that producers set."""


class SimMessage(Message):
    """A message with a header whose name is not UTF-8.

    As the library does, `headers` raises once, and then returns a list in which such a header has no name. The
    library's own method cannot be made to raise: code that calls ``Message.headers`` must be given this class for it.
    """

    _has_raised = False

    def headers(self) -> Any:
        """The headers, as the library tells them. It may also be called with a message of the library's class."""
        message: Message = self
        if isinstance(message, SimMessage) and not message._has_raised:
            self._has_raised = True
            raise SystemError("the name of a header is not UTF-8")
        return Message.headers(message)


def message_of(topic: str, partition: int, record: LogRecord) -> Message:
    """A record as a message."""
    headers: Any = record.headers or None
    kind: type[Message] = Message
    if headers is not None:
        if any(isinstance(name, bytes) for name, _ in headers):
            kind = SimMessage
            headers = [(value,) if isinstance(name, bytes) else (name, value) for name, value in headers]
        else:
            headers = list(headers)
    return kind(
        topic=topic,
        partition=partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=headers,
        timestamp=(_CREATE_TIME, record.timestamp_ms),
        leader_epoch=record.epoch,
    )


def error_message(code: ErrorCode, text: str, topic: str | None, partition: int | None, offset: int | None) -> Message:
    """An error in place of a message."""
    named: dict[str, Any] = {"topic": topic, "partition": partition, "offset": offset}
    return Message(error=KafkaError(code, text), **{name: value for name, value in named.items() if value is not None})


class PartitionOutcome(TopicPartition):
    """A partition with an error, which the library's constructor does not take."""

    error: KafkaError | None = None


def partition_outcome(
    place: tuple[str, int], offset: int, metadata: str, epoch: int, error: ErrorCode | None = None
) -> TopicPartition:
    """A partition as the library returns it; ``epoch`` -1: none."""
    named: dict[str, Any] = {"topic": place[0], "partition": place[1], "offset": offset}
    if metadata:
        named["metadata"] = metadata
    if epoch >= 0:
        named["leader_epoch"] = epoch
    if error is None:
        return TopicPartition(**named)
    outcome = PartitionOutcome(**named)
    outcome.error = KafkaError(error)
    return outcome


def failure(code: ErrorCode, what: str) -> KafkaException:
    """The exception of a call: it says which one failed."""
    return KafkaException(KafkaError(code, f"{what}: {KafkaError(code).str()}"))
