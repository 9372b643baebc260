"""The documents about canonical events agree with the decoder, and are complete in themselves."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pushrail_stream.core.event import TRACEPARENT_HEADER, VENDOR_HEADER, Event, decode
from pushrail_stream.events.schema import asyncapi, event_schema
from tests.support.samples import fields, json_bytes, json_values, texts

VALIDATOR = Draft202012Validator(event_schema())
TEXT = {"type": "string"}
DIALECT = {"$ref": "https://json-schema.org/draft/2020-12/schema"}


def fixed(**properties: Any) -> dict[str, Any]:
    """An object without other properties."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def kafka(**properties: Any) -> dict[str, Any]:
    return fixed(kafka=fixed(**properties, bindingVersion={"const": "0.5.0"}))


def named(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "minProperties": 1, "additionalProperties": schema}


REFERENCE = fixed(**{"$ref": TEXT}) | {"required": ["$ref"]}
CHANNEL = fixed(
    address=TEXT,
    title=TEXT,
    messages=named(REFERENCE),
    bindings=kafka(topicConfiguration=fixed(**{"cleanup.policy": {"items": {"enum": ["compact", "delete"]}}})),
)
OPERATION = fixed(
    action={"enum": ["send", "receive"]}, channel=REFERENCE, summary=TEXT, messages={"items": REFERENCE}
) | {"required": ["action", "channel"]}
MESSAGE = fixed(
    title=TEXT,
    summary=TEXT,
    contentType=TEXT,
    correlationId=fixed(location={"pattern": r"^\$message\.(header|payload)#/"}),
    headers=DIALECT,
    payload=DIALECT,
    bindings=kafka(key=DIALECT),
)
STRUCTURE = fixed(
    asyncapi={"const": "3.0.0"},
    info=fixed(title=TEXT, version=TEXT, description=TEXT) | {"required": ["title", "version"]},
    defaultContentType=TEXT,
    channels=named(CHANNEL),
    operations=named(OPERATION),
    components=fixed(messages=named(MESSAGE)),
) | {"required": ["asyncapi", "info"]}
"""The objects of AsyncAPI 3.0.0 ("Schema") and of Kafka's bindings 0.5.0 that the document has."""


def agrees(value: Any) -> bool:
    """Whether decoder and schema say the same of a value; the answer is the decoder's."""
    is_event = isinstance(decode(json_bytes(value), (), "acme"), Event)
    assert VALIDATOR.is_valid(value) == is_event, value
    return is_event


def digits(low: int, high: int, width: int = 2) -> st.SearchStrategy[str]:
    return st.integers(low, high).map(lambda number: f"{number:0{width}}")


ZONES = st.sampled_from(["Z", "z", "", "+00:00", "-23:59", "+24:00", "+02", "+0200", "+01:60"])
TIMES = st.builds(
    "{}-{}-{}{}{}:{}:{}{}{}{}".format,
    digits(0, 9999, 4), digits(0, 13), digits(0, 32), st.sampled_from("Tt "), digits(0, 25), digits(0, 61),
    digits(0, 61), st.sampled_from(["", ".1", ".123456789", ".", ",5"]), ZONES, st.sampled_from(["", "", "\n", " "]),
)  # fmt: skip
GOOD_TIMES = st.datetimes().flatmap(lambda moment: ZONES.map(lambda zone: moment.isoformat() + zone))


@given(TIMES | GOOD_TIMES | texts)
@example("2024-02-29T00:00:00Z")
@example("2100-02-29T00:00:00Z")
@example("2000-02-29T23:59:60Z")
@example("0000-01-01T00:00:00Z")
@example("2026-05-26T14:21:08Z\n")
@example("2026-05-26T14:21:08.٣Z")
@settings(max_examples=500)
def test_the_schema_has_the_decoders_times(text: str) -> None:
    agrees(fields(occurredAt=text))


LENGTHS = st.builds(
    lambda character, count: character * count, st.sampled_from("xé🚆"), st.sampled_from([0, 1, 128, 129, 256, 257])
)
NAMES = ["eventType", "source", "customerExternalId", "idempotencyKey", "correlationId", "payload", "metadata", "more"]


@given(st.dictionaries(st.sampled_from(NAMES), json_values | LENGTHS | st.just(...), max_size=3))
@settings(max_examples=300)
def test_the_schema_has_the_decoders_rules(changes: dict[str, Any]) -> None:
    agrees(fields(**changes))


@given(json_values)
def test_other_json_is_no_event_for_both(value: Any) -> None:
    assert not agrees(value)


def test_the_schema_is_one_and_its_example_an_event() -> None:
    Draft202012Validator.check_schema(event_schema())
    [shown] = event_schema()["examples"]
    assert agrees(shown)


def test_the_asyncapi_document_has_the_structure_of_its_specification() -> None:
    document = asyncapi("orders")
    Draft202012Validator(STRUCTURE).validate(document)
    for reference in references(document):
        found: Any = document
        for name in reference.removeprefix("#/").split("/"):
            found = found[name]
        assert isinstance(found, dict)


def test_the_asyncapi_document_describes_the_record() -> None:
    document = asyncapi("orders")
    message = document["components"]["messages"]["canonicalEvent"]
    assert document["channels"]["events"]["address"] == "orders"
    assert set(message["headers"]["properties"]) == {VENDOR_HEADER, TRACEPARENT_HEADER}
    customer = message["payload"]["properties"]["customerExternalId"]
    key = message["bindings"]["kafka"]["key"]
    assert (key["minLength"], key["maxLength"]) == (customer["minLength"], customer["maxLength"])
    assert {"$schema": event_schema()["$schema"]} | message["payload"] == event_schema()


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for inner in value.values() for found in references(inner)]
    return [found for inner in value for found in references(inner)] if isinstance(value, list) else []
