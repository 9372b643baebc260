"""Each decoder reads its own format and canonical events."""

from __future__ import annotations

from typing import get_args

import pytest

from pushrail_stream.core.event import Event, Undecodable
from pushrail_stream.formats.decoding import DECODERS, EventFormat
from tests.support.samples import EXAMPLE, decode_example

CONFLUENT_JSON = DECODERS["confluent_json"]
FRAMED = b"\0\0\0\0\x07" + EXAMPLE


def test_each_format_has_a_decoder() -> None:
    assert set(DECODERS) == set(get_args(EventFormat))


@pytest.mark.parametrize("name", DECODERS)
def test_each_decoder_reads_canonical_events(name: EventFormat) -> None:
    event = DECODERS[name](EXAMPLE, (("pushrail-vendor", b"globex"),), None)

    assert isinstance(event, Event)
    assert (event.vendor, event.value) == ("globex", EXAMPLE)
    assert DECODERS[name](None, (), "acme") == Undecodable("value", "is null, not a JSON object")
    assert DECODERS[name](b"{}", (), "acme") == Undecodable("eventType", "is missing")
    assert DECODERS[name](b"", (), "acme") == DECODERS["canonical"](b"", (), "acme")


def test_the_event_behind_a_schema_id_is_the_event() -> None:
    assert CONFLUENT_JSON(FRAMED, (), "acme") == DECODERS["canonical"](EXAMPLE, (), "acme")
    assert CONFLUENT_JSON(b"\0\0\0\0\x07{}", (), "acme") == Undecodable("eventType", "is missing")


def test_another_content_is_named() -> None:
    named = Undecodable("value", "is not one JSON object in UTF-8: Confluent framing, schema id 7, Avro")
    for name in DECODERS:
        assert DECODERS[name](b"\0\0\0\0\x07\x1eorder.completed", (), "acme") == named


def test_the_serializers_of_confluent_that_name_the_schema_in_a_header_write_canonical_events() -> None:
    header = (("__value_schema_id", b"\x01" + bytes(16)),)
    assert DECODERS["canonical"](EXAMPLE, header, "acme") == decode_example()._replace(
        value=EXAMPLE,
        size=DECODERS["canonical"](EXAMPLE, (), "acme").size,  # type: ignore[union-attr]
    )
