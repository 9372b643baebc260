"""Kafka's error codes, by what a client does about them. Names that begin with an underscore are librdkafka's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException

from pushrail_stream.errors import OperatorError
from pushrail_stream.settings.model import KafkaSettings

_Codes = frozenset[Any]
SETTLING: Final[_Codes] = frozenset((
    KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.NOT_COORDINATOR,
))  # fmt: skip
"""A cluster that settles: a topic was just created, or a leader or a coordinator is changing."""
OUT_OF_REACH: Final[_Codes] = frozenset((
    KafkaError.REQUEST_TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
))  # fmt: skip
"""librdkafka mends these by itself, beside the errors that it calls retriable."""
ALL_REFUSED: Final[Any] = KafkaError._ALL_BROKERS_DOWN
"""librdkafka tells this when no broker has a connection, once every few seconds."""
TOPIC_GONE: Final[_Codes] = frozenset((
    KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
))  # fmt: skip
"""Waiting does not mend these: the topic was deleted, or may not be read any more."""
UNREADABLE: Final[_Codes] = frozenset({KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG})
"""A batch cannot be read, however often it is tried."""
FENCED: Final[_Codes] = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})
"""A newer producer has the same transactional id."""
END_OF_PARTITION: Final[Any] = KafkaError._PARTITION_EOF
"""No error: the client has read all that there is. It tells so only on request."""
FATAL: Final[Any] = KafkaError._FATAL
"""The client can do nothing any more. A consumer's fatal errors come with this code and are not `fatal()`; their text
says which error it is, such as another member with our group.instance.id."""
_CONSUMER_HOPELESS: Final[_Codes] = frozenset(
    {
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError._AUTO_OFFSET_RESET,  # comes only if the operator asks for it
        FATAL,
    }
)


_NOT_RENEWED: Final = "Failed to acquire SASL OAUTHBEARER token"
"""Beginning of the text of an error that no broker has told: there is no new token. librdkafka asks for one every 10 s,
and the present one lives for another fifth of its life. Its code is that of a refused login."""


def is_hopeless(error: KafkaError) -> bool:
    """Whether Kafka refuses a consumer for good."""
    if error.str().startswith(_NOT_RENEWED):
        return False
    return error.fatal() or error.code() in _CONSUMER_HOPELESS


def refused_for_good(error: KafkaError) -> OperatorError:
    """The error of a consumer that Kafka refuses for good."""
    if error.code() == KafkaError._AUTO_OFFSET_RESET:
        return OperatorError(
            f"there is no offset to begin at, and kafka.client sets auto.offset.reset to error: {error.str()}; "
            "`pushrail-stream replay offsets` sets one"
        )
    return OperatorError(f"Kafka refuses this consumer for good: {error.str()}")


def cannot_be_read(what: object, kafka: KafkaSettings) -> str:
    """The sentence about a topic or a partition; the reason follows it."""
    return f"{what} cannot be read at {kafka.bootstrap_servers}"


@contextmanager
def as_operator_error(sentence: str) -> Iterator[None]:
    """Turn a KafkaException into an `OperatorError`: this sentence, and the exception's reason."""
    try:
        yield
    except KafkaException as error:
        raise OperatorError(f"{sentence}: {error.args[0].str()}") from error
