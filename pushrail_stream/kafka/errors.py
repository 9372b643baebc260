"""Kafka's error codes, by what a client does about them. Names that begin with an underscore are librdkafka's own."""

from __future__ import annotations

from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException

from pushrail_stream.errors import OperatorError
from pushrail_stream.settings.model import KafkaSettings

_Codes = frozenset[Any]
SETTLING: Final[_Codes] = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.NOT_COORDINATOR,
    }
)
"""A cluster that settles: a topic was just created, or a leader or a coordinator is changing."""
OUT_OF_REACH: Final[_Codes] = frozenset(
    {
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._TRANSPORT,  # noqa: SLF001
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        KafkaError._RESOLVE,  # noqa: SLF001
    }
)
"""librdkafka mends these by itself, beside the errors that it calls retriable."""
TOPIC_GONE: Final[_Codes] = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001
    }
)
"""Waiting does not mend these: the topic was deleted, or may not be read any more."""
UNREADABLE: Final[_Codes] = frozenset({KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG})  # noqa: SLF001
"""A batch cannot be read, however often it is tried."""
FENCED: Final[_Codes] = frozenset(
    {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}  # noqa: SLF001
)
"""A newer producer has the same transactional id."""
_CONSUMER_HARMLESS: Final[_Codes] = frozenset({KafkaError._PARTITION_EOF})  # noqa: SLF001
_CONSUMER_HOPELESS: Final[_Codes] = frozenset(
    {
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,  # noqa: SLF001
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - comes only if the operator asks for it
        # A consumer's fatal errors come as this, in an error that is not `fatal()`; its text says which error it is,
        # such as another member with our group.instance.id.
        KafkaError._FATAL,  # noqa: SLF001
    }
)


def is_hopeless(error: KafkaError) -> bool:
    """Whether Kafka refuses a consumer for good."""
    return error.fatal() or error.code() in _CONSUMER_HOPELESS


def is_harmless(error: KafkaError) -> bool:
    """Whether a consumer's error needs no mention."""
    return error.code() in _CONSUMER_HARMLESS


def refused_for_good(error: KafkaError) -> OperatorError:
    """The error of a consumer that Kafka refuses for good."""
    if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
        return OperatorError(
            f"there is no offset to begin at, and kafka.client sets auto.offset.reset to error: {error.str()}; "
            "`pushrail-stream replay offsets` sets one"
        )
    return OperatorError(f"Kafka refuses this consumer for good: {error.str()}")


def cannot_be_read(what: object, kafka: KafkaSettings, reason: KafkaException | KafkaError | str) -> OperatorError:
    """The error of a reader of a topic or a partition."""
    if isinstance(reason, KafkaException):
        reason = reason.args[0]
    return OperatorError(
        f"{what} cannot be read at {kafka.bootstrap_servers}: {getattr(reason, 'str', reason.__str__)()}"
    )
