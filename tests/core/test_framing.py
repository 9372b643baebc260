"""The first bytes of a value name its format."""

from __future__ import annotations

import pytest

from pushrail_stream.core.event import Undecodable
from pushrail_stream.core.framing import confluent_schema_id, foreign_format
from tests.support.samples import EXAMPLE, fields, json_bytes, refusal

VERSION = "b74d2cd9-8b5d-4a1f-b0d7-c0ffee123456"
GLUE = bytes.fromhex("0300b74d2cd98b5d4a1fb0d7c0ffee123456")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"\0\0\0\0\x07\x1eorder.completed", "Confluent framing, schema id 7, Avro"),
        (b"\0\0\x01\0\0\0\x0a\x05order", "Confluent framing, schema id 65536, Avro or Protobuf"),
        (b"\0\0\0\0\x07\x02\x02order", "Confluent framing, schema id 7, Avro or Protobuf"),
        (b"\0\0\0\0\x07 {}", "Confluent framing, schema id 7, JSON (events.format: confluent_json reads it)"),
        (GLUE + b"x", f"Glue Schema Registry framing, schema version {VERSION}"),
        (b"\x03\x05" + GLUE[2:] + b"x", f"Glue Schema Registry framing, schema version {VERSION}"),
        (GLUE, None),
        (b"\x03\x01" + GLUE[2:] + b"x", None),
        (b"\0\0\0\0\x07", None),
        (b"", None),
        (b"plain text", None),
    ],
)  # fmt: skip
def test_a_format_is_named(value: bytes, name: str | None) -> None:
    assert foreign_format(value) == name
    told = refusal(value)
    assert told.field == "value"
    assert told.problem.startswith("is not one JSON object in UTF-8: ")
    if name is not None:
        assert told.problem == f"is not one JSON object in UTF-8: {name}"


def test_other_values_have_no_schema_id() -> None:
    assert confluent_schema_id(EXAMPLE) is None


def test_a_cloudevent_is_named() -> None:
    text = "is a CloudEvent in %s mode (events.format: cloudevents reads it)"
    assert refusal(b'{"specversion": "1.0"}') == Undecodable("value", text % "structured")
    header = (("ce_specversion", b"1.0"),)
    assert refusal(b'{"orderId": 1}', header) == Undecodable("value", text % "binary")


def test_a_canonical_event_that_mentions_a_version_is_told_its_own_fault() -> None:
    assert refusal(json_bytes(fields(specversion="1.0", source=...))) == Undecodable("source", "is missing")
