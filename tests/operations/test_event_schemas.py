"""Schemas are inferred from events, and accept every event that they were inferred from."""

from __future__ import annotations

import json
import re
from typing import Any

import botocore.session
import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator
from openapi_schema_validator import OAS30Validator
from openapi_spec_validator import OpenAPIV30SpecValidator, validate

from pushrail_stream.cli.progress import ProgressBar
from pushrail_stream.operations.event_schemas import MAX_CONTENT, InferredSchema, SchemaInference, infer_schemas
from pushrail_stream.settings.model import Settings
from tests.support.builders import VENDOR, event
from tests.support.kafka.fixtures import NewTopic
from tests.support.samples import EXAMPLE, example_record, json_values, texts


def inferred(*values: bytes, source: str | None = None) -> SchemaInference:
    inference = SchemaInference(source)
    for value in values:
        inference.add(example_record(value=value), VENDOR)
    return inference


def openapi(*values: bytes) -> dict[str, Any]:
    """The components of the only event type."""
    [schema] = inferred(*values).schemas("OpenApi3")
    components: dict[str, Any] = json.loads(schema.content)["components"]["schemas"]
    return components


def arrived(value: bytes) -> dict[str, Any]:
    """The event as a rule's target receives it."""
    return {
        "version": "0", "id": "e3e70682", "detail-type": "order.completed", "source": "pushrail.acme", "account": "1",
        "time": "2026-05-26T14:21:08Z", "region": "us-east-1", "resources": ["a", "b"], "detail": json.loads(value),
    }  # fmt: skip


def test_a_schema_has_the_form_of_the_registry() -> None:
    [schema] = inferred(EXAMPLE, EXAMPLE).schemas("OpenApi3")
    assert (schema.name, schema.event_type, schema.events) == ("pushrail.acme@OrderCompleted", "order.completed", 2)
    content = json.loads(schema.content)
    validate(content, cls=OpenAPIV30SpecValidator)
    envelope = content["components"]["schemas"]["AWSEvent"]
    assert envelope["x-amazon-events-detail-type"] == "order.completed"
    assert envelope["x-amazon-events-source"] == "pushrail.acme"
    assert set(envelope["required"]) == set(envelope["properties"]) == set(arrived(EXAMPLE))
    assert envelope["properties"]["detail"] == {"$ref": "#/components/schemas/OrderCompleted"}
    items = content["components"]["schemas"]["OrderCompletedPayload"]["properties"]["items"]["items"]
    assert items == {"$ref": "#/components/schemas/OrderCompletedPayloadItemsItem"}


def test_create_schema_takes_it() -> None:
    model = botocore.session.get_session().get_service_model("schemas")
    members: Any = model.operation_model("CreateSchema").input_shape.members  # type: ignore[union-attr]
    assert members["Content"].metadata["max"] == MAX_CONTENT
    assert members["Type"].enum == ["OpenApi3", "JSONSchemaDraft4"]
    assert {"SchemaName", "RegistryName"} <= set(members)


def test_types_and_sources_have_schemas_of_their_own() -> None:
    values = [event(eventType=name) for name in ("order.completed", "order-completed", "überfällig", "order.completed")]
    found = list(inferred(*values, source="shop/eu").schemas("OpenApi3"))
    assert [(schema.name, schema.events) for schema in found] == [
        ("shop_eu@OrderCompleted", 1),
        ("shop_eu@OrderCompleted2", 2),
        ("shop_eu@BerfLlig", 1),
    ]
    assert all(re.fullmatch(r"[0-9A-Za-z._@-]+", schema.name) for schema in found)


def test_what_differs_between_events_is_optional_or_of_several_types() -> None:
    some, others = {"a": 1, "b": None, "c": "x", "d": {"e": 1}}, {"a": None, "b": None, "c": 1.5, "d": None}
    payload = openapi(event(payload=some), event(payload=others))["OrderCompletedPayload"]
    assert payload["properties"] == {
        "a": {"type": "integer", "nullable": True},
        "b": {"nullable": True},
        "c": {"anyOf": [{"type": "number"}, {"type": "string"}]},
        "d": {"$ref": "#/components/schemas/OrderCompletedPayloadD"},
    }
    assert openapi(event(payload={"a": 1, "b": 1}), event(payload={"b": 2}))["OrderCompletedPayload"]["required"] == [
        "b"
    ]


def test_components_of_one_name_are_kept_apart() -> None:
    components = openapi(event(eventType="AWSEvent", payload={"a-b": {"x": 1}, "a b": {"y": 1}}))
    assert {"AWSEvent", "AWSEvent2", "AWSEvent2Payload", "AWSEvent2PayloadAB", "AWSEvent2PayloadAB2"} <= set(components)


def test_other_records_are_left_out_and_counted() -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]
    inference = inferred(b"{", event(payload={"deep": deep}), event())
    assert inference.left_out == 2
    assert [schema.events for schema in inference.schemas("JSONSchemaDraft4")] == [1]


@given(st.lists(st.dictionaries(texts, json_values, max_size=4), min_size=1, max_size=4))
def test_a_schema_accepts_its_events(payloads: list[dict[str, Any]]) -> None:
    values = [event(payload=payload) for payload in payloads]
    inference = inferred(*values)

    def only(found: list[InferredSchema]) -> Any:
        [schema] = found
        return json.loads(schema.content)

    draft4 = only(list(inference.schemas("JSONSchemaDraft4")))
    Draft4Validator.check_schema(draft4)
    document = only(list(inference.schemas("OpenApi3")))
    validate(document, cls=OpenAPIV30SpecValidator)
    in_openapi = OAS30Validator({"$ref": "#/components/schemas/AWSEvent", "components": document["components"]})
    for value in values:
        Draft4Validator(draft4).validate(arrived(value))
        in_openapi.validate(arrived(value))


@pytest.mark.kafka
def test_the_newest_events_of_the_topic_are_read(kafka_bootstrap: str, new_topic: NewTopic) -> None:
    topic = new_topic()
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "log_level": 0})
    for number in range(5):
        producer.produce(topic, event(number=number), timestamp=1_780_000_000_000 + number * 3_600_000)
    assert producer.flush(30) == 0
    settings = Settings.model_validate(
        {"vendor": VENDOR, "kafka": {"bootstrap_servers": kafka_bootstrap}, "topics": {"events": topic}}
    )

    def events(**period: Any) -> list[int]:
        with ProgressBar(quiet=True) as progress:
            return [one.events for one in infer_schemas(settings, progress, **period).schemas("OpenApi3")]

    assert events() == [5]
    assert events(newest=2) == [2]
    assert events(since_ms=1_780_000_000_000 + 3_600_000) == [4]
    assert events(since_ms=1_790_000_000_000) == []
