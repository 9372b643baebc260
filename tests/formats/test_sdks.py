"""Records as other programs write them, recorded from their serializers."""

from __future__ import annotations

from typing import Final

import pytest

from pushrail_stream.core.event import Event, Undecodable
from pushrail_stream.core.record import Headers
from pushrail_stream.formats.decoding import DECODERS, EventFormat

EVENT: Final = (
    b'{"eventType":"order.completed","occurredAt":"2026-05-26T14:21:08.493Z","source":"billing-service",'
    b'"customerExternalId":"acct_8K2zRq","idempotencyKey":"order_38a91f-completed","payload":{"amount":12900}}'
)
AVRO: Final = b"\x00\x00\x00\x00\x02\x1eorder.completed\x082026"
"""AvroSerializer of confluent-kafka 2.16.1."""
DATA: Final = b'{"orderId": "ord_38a91f", "amount": 12900}'
BINARY: Final[Headers] = (
    ("ce_id", b"38a91f"),
    ("ce_source", b"/billing"),
    ("ce_type", b"order.completed"),
    ("ce_specversion", b"1.0"),
    ("ce_time", b"2026-05-26T14:21:08.493000Z"),
    ("ce_customerexternalid", b"acct_8K2zRq"),
    ("ce_subject", b"Z\xc3\xbcrich"),
    ("content-type", b"application/json"),
)
STRUCTURED: Final = (
    b'{"id": "38a91f", "source": "/billing", "type": "order.completed", "specversion": "1.0", '
    b'"time": "2026-05-26T14:21:08.493000Z", "customerexternalid": "acct_8K2zRq", "subject": "Z\\u00fcrich", '
    b'"datacontenttype": "application/json", "data": ' + DATA + b"}"
)


@pytest.mark.parametrize(
    ("event_format", "headers", "value"),
    [
        # JSONSerializer of confluent-kafka 2.16.1, and the same with header_schema_id_serializer.
        ("confluent_json", (), b"\x00\x00\x00\x00\x01" + EVENT),
        ("canonical", (("__value_schema_id", b"\x01\xfb\n\xa0\x93\x11\x00D\x90\x83\xa6__\x8c\x8b\x98T"),), EVENT),
    ],
)
def test_confluents_serializers(event_format: EventFormat, headers: Headers, value: bytes) -> None:
    event = DECODERS[event_format](value, headers, "acme")
    assert isinstance(event, Event)
    assert event.value == EVENT


def test_confluents_avro_is_named() -> None:
    problem = DECODERS["canonical"](AVRO, (), "acme")
    assert isinstance(problem, Undecodable)
    assert problem.problem.endswith("Confluent framing, schema id 2, Avro")


@pytest.mark.parametrize(
    ("headers", "value", "city"),
    [
        (BINARY, DATA, "Zürich".encode()),
        ((("content-type", b"application/cloudevents+json"),), STRUCTURED, b"Z\\u00fcrich"),
    ],
)
def test_the_sdk_of_cloudevents(headers: Headers, value: bytes, city: bytes) -> None:
    """to_binary and to_structured of the Kafka binding of Python's SDK, cloudevents 2.2.0."""
    event = DECODERS["cloudevents"](value, headers, "acme")
    assert isinstance(event, Event)
    assert event.value == (
        b'{"eventType":"order.completed","occurredAt":"2026-05-26T14:21:08.493000Z","source":"/billing",'
        b'"customerExternalId":"acct_8K2zRq","idempotencyKey":"/billing 38a91f","payload":'
        + DATA
        + b',"metadata":{"subject":"'
        + city
        + b'"}}'
    )


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        (
            (("content-type", b"application/cloudevents+json"),),
            (
                b'{"specversion":"1.0","id":"38a91f","source":"/billing","type":"order.completed","datacontenttype":'
                b'"application/json","subject":"Z\xc3\xbcrich","time":"2026-05-26T14:21:08.493Z","customerexternalid":'
                b'"acct_8K2zRq","data":{ "amount": 12900.0 }}'
            ),
        ),
        (
            (
                ("ce_specversion", b"1.0"),
                ("ce_id", b"38a91f"),
                ("ce_source", b"/billing"),
                ("ce_type", b"order.completed"),
                ("content-type", b"application/json"),
                ("ce_subject", b"Z\xc3\xbcrich"),
                ("ce_time", b"2026-05-26T14:21:08.493Z"),
                ("ce_customerexternalid", b"acct_8K2zRq"),
            ),
            b'{ "amount": 12900.0 }',
        ),
    ],
)
def test_javas_sdk_of_cloudevents(headers: Headers, value: bytes) -> None:
    """CloudEventSerializer of io.cloudevents:cloudevents-kafka 4.0.1 in structured and binary mode."""
    event = DECODERS["cloudevents"](value, headers, "acme")
    assert isinstance(event, Event)
    assert event.value == (
        b'{"eventType":"order.completed","occurredAt":"2026-05-26T14:21:08.493Z","source":"/billing",'
        b'"customerExternalId":"acct_8K2zRq","idempotencyKey":"/billing 38a91f","payload":{ "amount": 12900.0 },'
        b'"metadata":{"subject":"Z\xc3\xbcrich"}}'
    )
