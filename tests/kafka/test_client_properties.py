"""The operator's librdkafka properties: each one is obeyed by every client that knows it, or refused by name."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from confluent_kafka import Consumer, Producer
from pydantic import ValidationError

from pushrail_stream.errors import UsageError
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.client_properties import checked_kafka, events_consumer, retries_consumer
from pushrail_stream.kafka.librdkafka import CONSUMER_ONLY, PRODUCER_ONLY, parse_number
from pushrail_stream.settings.client import ALIASES
from pushrail_stream.settings.model import KafkaSettings, Settings
from tests.support.kafka.librdkafka import Known, read_back

SECRET: Final = "hunter2-S3cr3t"
SAMPLES: Final = {
    "auto.offset.reset": "error",
    "group.protocol.type": "consumer",
    "partitioner": "consistent",
    "fetch.max.bytes": "300000000",
    "receive.message.max.bytes": "2000000000",
    "message.max.bytes": "900000",
    "max.in.flight": "3",
    "max.in.flight.requests.per.connection": "3",
    "session.timeout.ms": "12345",
    "max.poll.interval.ms": "123456",
    "linger.ms": "321",
    "queue.buffering.max.ms": "321",
    "socket.timeout.ms": "61000",
    "retry.backoff.max.ms": "2000",
    "debug": "conf",
    "log_level": "7",
}
"""Values of properties that librdkafka checks against others, or whose list has no value but the default."""
REFUSED_BY_LIBRDKAFKA: Final = {
    # Not to be set by a value.
    "default_topic_conf",
    "interceptors",
    "msg_order_cmp",
    "ssl_ca",
    "ssl_certificate",
    "ssl_engine_callback_data",
    "ssl_key",
    # Not with the sample: there is no such file, or it is not complete.
    "https.ca.location",
    "plugin.library.paths",
    "ssl.keystore.location",
    # Not on this system.
    "ssl.ca.certificate.stores",
    # Not with an idempotent producer, but for their defaults.
    "queue.buffering.backpressure.threshold",
    "queuing.strategy",
}
"""Properties whose sample librdkafka itself refuses."""


def settings(client: dict[str, Any], **kafka: Any) -> Settings:
    return Settings.model_validate({"kafka": {"bootstrap_servers": "127.0.0.1:1", "client": client} | kafka})


def clients_of(kafka: KafkaSettings) -> Iterator[tuple[str, type[Consumer | Producer], dict[str, Any]]]:
    """Every kind of client that the product opens, by what it is for."""
    yield "events", Consumer, events_consumer(kafka).properties()
    yield "retries", Consumer, retries_consumer(kafka).properties()
    yield "scan", Consumer, client_properties.reader(kafka, "any", {"fetch.wait.max.ms": 7})
    yield "copies", Producer, client_properties.copies_producer(kafka)
    yield "ingest", Producer, client_properties.event_producer(kafka, 10)
    yield "attempts", Producer, client_properties.log_producer(kafka)
    yield "replays", Producer, client_properties.transactions_producer(kafka, "any")
    yield "admin", Producer, client_properties.admin(kafka, {"metadata.max.age.ms": 1_000})


def sample(known: Known) -> str:
    """A value that is neither librdkafka's default nor ours."""
    if known.name in SAMPLES:
        return SAMPLES[known.name]
    low, _, high = known.values.partition(" .. ")
    if high:
        return str(max(int(low), min(int(high), int(known.default or 0) + 11)))
    choices = [value.strip() for value in known.values.split(",")]
    return next((value for value in choices if value not in {"", known.default}), "sample")


def is_read_by(name: str, role: str, kind: type[Consumer | Producer]) -> bool:
    """Whether a client of this role is to have the property."""
    if name in CONSUMER_ONLY:
        return kind is Consumer and (name != "auto.offset.reset" or role == "events")
    return name not in PRODUCER_ONLY or (kind is Producer and role != "admin")


def refusal(name: str, value: str | float) -> str:
    """Why the settings, or librdkafka, refuse the property; empty when it is accepted."""
    try:
        checked_kafka(settings({name: value}))
    except (ValidationError, UsageError) as error:
        return str(error)
    return ""


def test_properties_are_obeyed_or_refused(
    known: dict[str, Known],
) -> None:
    refusals = {name: refusal(name, sample(property_)) for name, property_ in known.items()}
    assert all(name in text for name, text in refusals.items() if text)
    assert {n for n, text in refusals.items() if text and "belongs to the engine" not in text} == REFUSED_BY_LIBRDKAFKA
    accepted = [known[name] for name, text in refusals.items() if not text]
    assert len(accepted) > 100
    for property_ in accepted:
        name, value = property_.name, sample(property_)
        for role, kind, properties in clients_of(checked_kafka(settings({name: value}))):
            seen = read_back(kind, properties)
            assert seen.warnings == "", (name, role)
            if is_read_by(name, role, kind):
                assert seen.values.get(property_.alias_of or name) in {value, "[redacted]"}, (name, role)


def test_our_lists_of_properties_match_librdkafka(
    known: dict[str, Known],
) -> None:
    settable = {name: p for name, p in known.items() if "engine" not in refusal(name, sample(p))}
    dedicated = {"msg_order_cmp"}
    assert {name for name, p in settable.items() if p.kind == "C"} == CONSUMER_ONLY
    assert {name for name, p in settable.items() if p.kind == "P"} - dedicated == PRODUCER_ONLY
    assert {name: p.alias_of for name, p in settable.items() if p.alias_of} == ALIASES


@pytest.mark.parametrize(
    ("client", "named"),
    [
        ({"no.such.thing": 1}, "no.such.thing"),
        ({"debug": "conf", "linger.ms": -4}, "linger.ms"),
        ({"session.timeout.ms": "soon"}, "session.timeout.ms"),
        ({"security.protocol": SECRET}, "security.protocol"),
        ({"partitioner": SECRET}, "partitioner"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": SECRET}, "sasl.mechanism"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": SECRET}, "sasl.username"),
        ({"security.protocol": "SSL", "ssl.ca.location": "/there/is/none.pem"}, "ssl.ca.location"),
        ({"security.protocol": "SSL", "ssl.key.pem": SECRET, "ssl.certificate.pem": SECRET}, "ssl.certificate.pem"),
        ({"fetch.max.bytes": 100}, "fetch.max.bytes"),
        ({"retries": 0}, "retries"),
        ({"max.in.flight": 9}, "max.in.flight"),
        ({"heartbeat.interval.ms": True}, "heartbeat.interval.ms"),
        ({"linger.ms": 14_999.5}, "linger.ms"),
    ],
)
def test_a_refusal_hides_the_value(client: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_kafka(settings(client))
    assert str(caught.value).startswith(f"kafka.client.{named}: ")
    assert SECRET not in str(caught.value)


def test_a_refusal_begins_with_the_property() -> None:
    with pytest.raises(UsageError, match=r"ssl\.ca\.location failed") as caught:
        checked_kafka(settings({"ssl.ca.location": "/missing", "security.protocol": "ssl"}))
    assert "to create" not in str(caught.value)


def test_a_linger_over_the_timeout_is_refused() -> None:
    slow = Settings.model_validate({"kafka": {"client": {"linger.ms": 2_000}}, "ingest": {"timeout_secs": 1}})
    with pytest.raises(UsageError, match=r"^kafka\.client\.linger\.ms: "):
        checked_kafka(slow)


def test_one_property_by_two_names_is_refused() -> None:
    with pytest.raises(ValueError, match=r"linger\.ms and queue\.buffering\.max\.ms are two names"):
        settings({"linger.ms": 1, "queue.buffering.max.ms": 2})


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_the_alias_of_a_property_overrides_our_default(protocol: str) -> None:
    kafka = checked_kafka(settings({"fetch.message.max.bytes": 70_000}, group_protocol=protocol))
    assert read_back(Consumer, events_consumer(kafka).properties()).values["fetch.message.max.bytes"] == "70000"


@contextmanager
def counting_door() -> Iterator[tuple[str, list[object]]]:
    """An address, and the connections that were made to it."""
    found: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as door:

        def let_in() -> None:
            while True:
                connection, address = door.accept()
                connection.close()
                if found and found[-1] == "end":
                    return
                found.append(address)

        thread = threading.Thread(target=let_in)
        thread.start()
        host, port = door.getsockname()
        yield f"{host}:{port}", found
        calls = list(found)
        found.append("end")
        socket.create_connection((host, port)).close()
        thread.join()
        found[:] = calls


def test_the_trial_connects_to_nothing() -> None:
    with counting_door() as (address, connections):
        checked_kafka(
            settings(
                {
                    "security.protocol": "SASL_PLAINTEXT",
                    "sasl.mechanism": "OAUTHBEARER",
                    "sasl.oauthbearer.method": "oidc",
                    "sasl.oauthbearer.client.id": "any",
                    "sasl.oauthbearer.client.secret": SECRET,
                    "sasl.oauthbearer.token.endpoint.url": f"http://{address}/",
                },
                bootstrap_servers=address,
            )
        )
    assert connections == []


@pytest.mark.parametrize("name", ["message.max.bytes", "batch.size", "socket.timeout.ms", "receive.message.max.bytes"])
@pytest.mark.parametrize("value", ["abc", "", ".", "-7", True, float("inf"), float("nan"), "9" * 30])
def test_an_invalid_number_is_refused_by_name(name: str, value: str | float) -> None:
    assert f"kafka.client.{name}: " in refusal(name, value)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1_000_000, 1_000_000), (1_000_000.0, 1_000_000), (" 1000000", 1_000_000), ("+7", 7), ("0x10", 16), ("010", 8),
        ("0", 0), ("12 ", 12), (None, None), (True, None), ("", None), ("x", None), ("-1", None), ("9" * 21, None),
    ],
)  # fmt: skip
def test_numbers_are_read_as_librdkafka_reads_them(value: object, number: int | None) -> None:
    assert parse_number(value) == number


def test_the_largest_answer_is_accepted() -> None:
    for consumer in (events_consumer(checked_kafka(settings({}))), retries_consumer(checked_kafka(settings({})))):
        largest = consumer.properties()["receive.message.max.bytes"]
        assert str(largest) in refusal("receive.message.max.bytes", largest + 1)


def test_sizes_are_obeyed_in_any_notation() -> None:
    kafka = checked_kafka(settings({"message.max.bytes": "0x1000000"}))
    assert events_consumer(kafka).properties()["fetch.max.bytes"] == 0x1000000


@pytest.mark.parametrize(("client_id", "instance"), [("pushrail-stream", "pod-7"), ("pushrail-stream-2", "pod-7-2")])
def test_each_worker_has_its_own_static_member_id(client_id: str, instance: str) -> None:
    kafka = checked_kafka(Settings.model_validate({"kafka": {"group_instance_id": "pod-7"}}), client_id)
    for consumer in (events_consumer(kafka), retries_consumer(kafka)):
        assert consumer.properties()["group.instance.id"] == instance


def test_membership_is_dynamic_by_default() -> None:
    assert "group.instance.id" not in events_consumer(checked_kafka(Settings())).properties()


def test_the_settings_of_a_command_are_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = list[object]()
    monkeypatch.setattr(client_properties, "try_clients", lambda own, _clients: tried.append(own))
    once = settings({"client.rack": "a"})
    for client_id in ("pushrail-stream", "pushrail-stream-2"):
        assert checked_kafka(once, client_id).client.reveal() == {"client.id": client_id, "client.rack": "a"}
    checked_kafka(settings({}))
    assert tried == [{"client.rack": "a"}, {}]
