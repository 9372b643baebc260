"""The operator's librdkafka properties: each one is obeyed by every client that knows it, or refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from confluent_kafka import Consumer, Producer

from pushrail_stream import msk_iam
from pushrail_stream.errors import UsageError
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.client_properties import checked_kafka, events_consumer, retries_consumer
from pushrail_stream.kafka.librdkafka import CONSUMER_ONLY, PRODUCER_ONLY
from pushrail_stream.settings.model import KafkaSettings, Settings
from tests.support.kafka.librdkafka import SECRET, Known, read_back, refusal, sample, settings

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


def clients_of(kafka: KafkaSettings) -> Iterator[tuple[str, type[Consumer | Producer], dict[str, Any]]]:
    """Every kind of client that the product opens, by its role."""
    yield "events", Consumer, events_consumer(kafka).properties()
    yield "retries", Consumer, retries_consumer(kafka).properties()
    yield "scan", Consumer, client_properties.reader(kafka, "any", {"fetch.wait.max.ms": 7})
    yield "copies", Producer, client_properties.copies_producer(kafka)
    yield "ingest", Producer, client_properties.event_producer(kafka, 10)
    yield "attempts", Producer, client_properties.log_producer(kafka)
    yield "replays", Producer, client_properties.transactions_producer(kafka, "any")
    yield "admin", Producer, client_properties.admin(kafka, {"metadata.max.age.ms": 1_000})


def is_read_by(name: str, role: str, kind: type[Consumer | Producer]) -> bool:
    """Whether a client of this role is to have the property."""
    if name in CONSUMER_ONLY:
        return kind is Consumer and (name != "auto.offset.reset" or role == "events")
    return name not in PRODUCER_ONLY or (kind is Producer and role != "admin")


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


def test_every_client_logs_in_to_msk_by_iam(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = iter(range(100))
    monkeypatch.setattr(msk_iam, "msk_token", lambda region: (f"{region} {next(tokens)}", 9e9))
    kafka = checked_kafka(settings({}, auth={"method": "msk_iam", "region": "eu-west-1"}))
    assert next(tokens) == 0, "a trial of the settings asks for no token"
    for role, kind, properties in clients_of(kafka):
        assert properties["oauth_cb"]("")[0].startswith("eu-west-1 "), role
        values = read_back(kind, properties).values
        assert (values["security.protocol"], values["sasl.mechanisms"]) == ("sasl_ssl", "OAUTHBEARER"), role
