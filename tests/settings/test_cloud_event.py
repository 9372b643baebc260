"""CloudEvents: the mapping of CONTRACTS.md, with the payload byte for byte."""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.event import MAX_LEVELS, Event, decode
from pushrail_stream.eventbridge import entry_v2
from pushrail_stream.eventbridge.entry import entry_size, render
from pushrail_stream.settings import cloud_event as module
from pushrail_stream.settings.cloud_event import cloud_event
from tests.support.builders import VENDOR, destination
from tests.support.samples import decode_example, fields, json_bytes, json_values, texts

DESTINATION = destination(detail_format="cloudevents")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def attributes(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cloud_event(event))
    return found


def event_of(value: bytes) -> Event:
    decoded = decode(value, (), VENDOR)
    assert isinstance(decoded, Event)
    return decoded


def test_an_event_has_its_attributes() -> None:
    event = decode_example((("traceparent", TRACE.encode()),), metadata={"env": "prod"}, correlationId="corr-1")
    assert attributes(event) == {
        "specversion": "1.0",
        "id": event.idempotency_key,
        "source": event.source,
        "type": event.event_type,
        "time": fields()["occurredAt"],
        "datacontenttype": "application/json",
        "customerexternalid": event.customer_external_id,
        "correlationid": "corr-1",
        "traceparent": TRACE,
        "metadata": '{"env": "prod"}',
        "data": fields()["payload"],
    }


def test_optional_attributes_are_left_out() -> None:
    plain = attributes(decode_example(metadata=..., correlationId=...))
    assert not plain.keys() & {"correlationid", "traceparent", "metadata"}
    # CloudEvents has no empty attributes.
    assert "correlationid" not in attributes(decode_example(correlationId=""))


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("billing-service", "billing-service"),
        ("https://example.com/a?b=1#c", "https://example.com/a?b=1#c"),
        ("urn:uuid:6e8bc430", "urn:uuid:6e8bc430"),
        ("/shops/7%20a", "/shops/7%20a"),
        ("", "unknown"),
        ("order service", "order%20service"),
        ("50%", "50%25"),
        ("7:a", "7%3Aa"),
        ("a#b#c", "a%23b%23c"),
        ("größe", "gr%C3%B6%C3%9Fe"),
    ],
)
def test_the_source_is_a_uri_reference(source: str, shown: str) -> None:
    assert attributes(decode_example(source=source))["source"] == shown


@given(
    payload=st.dictionaries(texts, json_values, max_size=3),
    metadata=st.dictionaries(texts, json_values, max_size=3) | st.just(...),
    indent=st.sampled_from([None, 1, "\t"]),
    ascii_only=st.booleans(),
)
def test_the_payload_passes_byte_for_byte(
    payload: dict[str, Any], metadata: Any, indent: Any, *, ascii_only: bool
) -> None:
    def dump(value: Any) -> bytes:
        return json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()

    produced = fields(payload="PAYLOAD", metadata=metadata)
    event = event_of(dump(produced).replace(b'"PAYLOAD"', dump(payload)))
    made = cloud_event(event)
    assert made.endswith(b',"data":' + dump(payload) + b"}")
    # However deep the stack is at the moment, the bytes are the same.
    with patch.object(module, "_decode", side_effect=RecursionError):
        assert cloud_event(event) == made == cloud_event(event)


def test_numbers_keep_their_digits() -> None:
    value = json_bytes(fields(payload="PAYLOAD")).replace(
        b'"PAYLOAD"', b'{"a": 1.50, "b":1E5,"\\u0063":10000000000000000001}'
    )
    assert cloud_event(event_of(value)).endswith(b',"data":{"a": 1.50, "b":1E5,"\\u0063":10000000000000000001}}')


def test_the_last_of_two_payloads_counts() -> None:
    value = json_bytes(fields(payload={"first": 1}))[:-1] + b', "pay\\u006coad": {"last": {"payload": 2}} }'
    event = event_of(value)
    made = cloud_event(event)
    assert made.endswith(b',"data":{"last": {"payload": 2}}}')
    with patch.object(module, "_decode", side_effect=RecursionError):
        assert cloud_event(event) == made


def test_the_last_of_two_times_counts_whatever_the_first_is() -> None:
    event = event_of(b'{"occurredAt":5,' + json_bytes(fields())[1:])
    assert attributes(event)["time"] == fields()["occurredAt"]
    with patch.object(module, "_decode", side_effect=RecursionError):
        assert attributes(event)["time"] == fields()["occurredAt"]


def test_the_deepest_event_is_one() -> None:
    deep = b'{"a":' * (MAX_LEVELS - 1) + b"{}" + b"}" * (MAX_LEVELS - 1)
    value = json_bytes(fields(payload="PAYLOAD")).replace(b'"PAYLOAD"', deep[5:-1])
    assert cloud_event(event_of(value)).endswith(b',"data":' + deep[5:-1] + b"}")


def test_entries_of_both_apis_have_it() -> None:
    event = decode_example()
    assert render(event, DESTINATION) == render(event, destination()) | {"Detail": cloud_event(event).decode()}
    assert entry_v2.render(event, DESTINATION)["Detail"] == cloud_event(event).decode()


@given(key=texts.filter(lambda text: 0 < len(text) <= 256), note=texts)
def test_the_size_is_that_of_the_entry(key: str, note: str) -> None:
    event = decode_example(idempotencyKey=key, metadata={"note": note})
    entry = render(event, DESTINATION)
    counted = (entry["Source"], entry["DetailType"], entry["Detail"], *entry["Resources"])
    assert entry_size(event, DESTINATION) == 14 + sum(len(text.encode()) for text in counted)
