"""Kafka's error codes, by what a client does about them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import errors
from pushrail_stream.kafka.errors import as_operator_error, cannot_be_read, is_hopeless, refused_for_good
from pushrail_stream.settings.model import KafkaSettings


@pytest.mark.parametrize(
    ("code", "is_final"),
    [
        (KafkaError.GROUP_AUTHORIZATION_FAILED, True),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, True),
        (KafkaError.SASL_AUTHENTICATION_FAILED, True),
        (KafkaError._AUTO_OFFSET_RESET, True),
        (KafkaError._FATAL, True),
        (KafkaError._TRANSPORT, False),
        (KafkaError._ALL_BROKERS_DOWN, False),
        (KafkaError.REBALANCE_IN_PROGRESS, False),
        (KafkaError._BAD_COMPRESSION, False),
    ],
)
def test_only_final_refusals_end_a_consumer(code: Any, *, is_final: bool) -> None:
    assert is_hopeless(KafkaError(code)) == is_final


def test_a_fatal_error_is_hopeless_whatever_its_code() -> None:
    assert is_hopeless(KafkaError(KafkaError._TRANSPORT, "gone", fatal=True))


def test_a_missing_offset_names_its_remedy() -> None:
    error = refused_for_good(KafkaError(KafkaError._AUTO_OFFSET_RESET, "no offset"))
    assert "kafka.client sets auto.offset.reset to error: no offset" in str(error)
    assert "`pushrail-stream replay offsets` sets one" in str(error)
    other = refused_for_good(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED, "denied"))
    assert str(other) == "Kafka refuses this consumer for good: denied"


def test_kafkas_reason_follows_the_sentence() -> None:
    sentence = cannot_be_read("pushrail.events/0", KafkaSettings(bootstrap_servers="kafka:9092"))
    expected = r"^pushrail.events/0 cannot be read at kafka:9092: it is gone$"
    with pytest.raises(OperatorError, match=expected) as caught, as_operator_error(sentence):
        raise KafkaException(KafkaError(KafkaError._UNKNOWN_TOPIC, "it is gone"))
    assert isinstance(caught.value.__cause__, KafkaException)


def test_a_client_without_a_broker_is_out_of_reach() -> None:
    seen: list[KafkaError] = []
    client = Producer({"bootstrap.servers": "127.0.0.1:1", "error_cb": seen.append, "log_level": 0})
    with pytest.raises(KafkaException) as caught:
        client.list_topics(timeout=2)
    client.poll(1)
    assert caught.value.args[0].code() in errors.OUT_OF_REACH
    assert seen
    assert all(error.code() in errors.OUT_OF_REACH for error in seen)


def test_codes_have_one_remedy_each() -> None:
    groups = [errors.SETTLING, errors.OUT_OF_REACH, errors.TOPIC_GONE, errors.UNREADABLE, errors.FENCED]
    assert sum(map(len, groups)) == len(frozenset().union(*groups))


class Away:
    """A source that gives one token, which ends after a second, and is away from then on."""

    def __init__(self) -> None:
        self.is_away = False

    def __call__(self, _config: str) -> tuple[str, float]:
        if self.is_away:
            raise ConnectionError("the issuer of tokens is away")
        self.is_away = True
        return "token", time.time() + 1  # noqa: TID251 - a token's end is a wall clock's


@pytest.mark.parametrize(
    "source",
    [
        {"oauth_cb": Away()},
        {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": "id",
            "sasl.oauthbearer.client.secret": "secret",
            "sasl.oauthbearer.token.endpoint.url": "http://127.0.0.1:1/token",
        },
    ],
)
def test_a_token_that_cannot_be_had_now_ends_no_consumer(source: dict[str, Any]) -> None:
    """The login in use still has a token, and the next one may come in time."""
    seen: list[KafkaError] = []
    login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanisms": "OAUTHBEARER"} | source
    client = Producer({"bootstrap.servers": "127.0.0.1:1", "error_cb": seen.append, "log_level": 0} | login)
    for _ in range(100):
        client.poll(0.2)
        if KafkaError._AUTHENTICATION in {error.code() for error in seen}:
            break
    [refused] = [error for error in seen if error.code() == KafkaError._AUTHENTICATION]
    assert not is_hopeless(refused)
    assert is_hopeless(KafkaError(KafkaError._AUTHENTICATION, "SASL authentication error: denied"))
