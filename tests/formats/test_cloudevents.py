"""CloudEvents as canonical events: the mapping, untouched data, and the text of each broken rule."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given

from pushrail_stream.core.event import Event, Undecodable, decode
from pushrail_stream.core.record import NOT_UTF8, Headers
from pushrail_stream.formats.cloudevents import decode_cloudevent
from tests.support.samples import json_values

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
DATA = b'{ "amount": 12900.0, "id": 123456789012345678901234567890, "note": "\\u00e9" }'
"""With blanks, an escape and numbers that JSON libraries write in other ways."""


def attributes(**changes: Any) -> dict[str, Any]:
    given = {
        "specversion": "1.0",
        "id": "38a91f",
        "source": "/billing",
        "type": "order.completed",
        "time": "2026-05-26T14:21:08.493Z",
        "customerexternalid": "acct_8K2zRq",
        "correlationid": "req_4f30b2",
        "datacontenttype": "application/json",
        "subject": "ord_38a91f",
        "dataschema": "https://example.com/order",
    } | changes
    return {name: value for name, value in given.items() if value is not ...}


CANONICAL = (
    b'{"eventType":"order.completed","occurredAt":"2026-05-26T14:21:08.493Z","source":"/billing",'
    b'"customerExternalId":"acct_8K2zRq","idempotencyKey":"/billing 38a91f","correlationId":"req_4f30b2",'
    b'"payload":' + DATA + b',"metadata":{"subject":"ord_38a91f","dataschema":"https://example.com/order"}}'
)


def structured(data: bytes | None = DATA, **changes: Any) -> bytes:
    head = json.dumps(attributes(**changes), separators=(",", ":")).encode()
    return head if data is None else head[:-1] + b',"data":' + data + b"}"


def binary(**changes: Any) -> Headers:
    return tuple((f"ce_{name}", str(value).encode()) for name, value in attributes(**changes).items())


STRUCTURED: Headers = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)


def read(value: bytes | None, headers: Headers = STRUCTURED) -> Event:
    event = decode_cloudevent(value, headers, "acme")
    assert isinstance(event, Event), event
    return event


def refused(value: bytes | None, headers: Headers = STRUCTURED) -> Undecodable:
    problem = decode_cloudevent(value, headers, "acme")
    assert isinstance(problem, Undecodable), problem
    return problem


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (structured(), STRUCTURED),
        (structured(), (("content-type", b"Application/CloudEvents"),)),
        (structured(), ()),
        (structured(comexampleextension=None), STRUCTURED),
        (DATA, binary()),
        (DATA, (("content-type", b"application/json"), *binary())),
    ],
)
def test_both_modes_give_the_same_canonical_event(value: bytes, headers: Headers) -> None:
    event = read(value, headers)

    assert event.value == CANONICAL
    assert event == decode(CANONICAL, (), "acme")


@given(json_values)
def test_data_are_untouched(content: Any) -> None:
    data = json.dumps({"content": content}, indent=1, ensure_ascii=False).encode()
    for event in (read(structured(data)), read(data, binary())):
        assert b'"payload":' + data + b"," in event.value


def test_a_canonical_event_needs_no_metadata() -> None:
    event = read(structured(subject=..., dataschema=..., correlationid=...))

    assert b"metadata" not in event.value
    assert event.correlation_id is None


def test_extensions_become_metadata() -> None:
    event = read(structured(tier=3, sampled=True))

    assert json.loads(event.value)["metadata"] | {"tier": 3, "sampled": True} == json.loads(event.value)["metadata"]


def test_an_idempotency_key_of_its_own_is_taken() -> None:
    assert read(structured(idempotencykey="order_38a91f")).idempotency_key == "order_38a91f"
    assert read(DATA, binary(idempotencykey="order_38a91f")).idempotency_key == "order_38a91f"


def test_one_id_of_two_sources_makes_two_keys() -> None:
    keys = {read(structured(source=source)).idempotency_key for source in ("/billing", "/shop")}
    assert keys == {"/billing 38a91f", "/shop 38a91f"}


def test_a_long_source_and_id_stand_as_their_digest() -> None:
    source = "/" + "é" * 300
    event = read(structured(source=source))

    assert event.idempotency_key == hashlib.sha256(f"{source} 38a91f".encode()).hexdigest()
    assert event.source == source


@pytest.mark.parametrize("as_binary", [False, True])
def test_the_traceparent_of_the_event_counts_where_the_record_has_none(as_binary: bool) -> None:  # noqa: FBT001
    other = TRACEPARENT.replace("4bf9", "ffff")
    value = DATA if as_binary else structured(traceparent=TRACEPARENT)
    headers = binary(traceparent=TRACEPARENT) if as_binary else STRUCTURED

    assert read(value, headers).traceparent == TRACEPARENT
    assert read(value, (*headers, ("traceparent", other.encode()))).traceparent == other
    assert b"traceparent" not in read(value, headers).value
    assert read(structured(traceparent="none")).traceparent is None
    assert read(structured(traceparent=7)).traceparent is None


def test_the_vendor_is_the_headers() -> None:
    assert read(structured(), (*STRUCTURED, ("pushrail-vendor", b"globex"))).vendor == "globex"
    assert refused(structured(), ((NOT_UTF8, b"x"), *STRUCTURED)).field == "headers"


@pytest.mark.parametrize("name", ["id", "source", "type", "time", "customerexternalid", "specversion"])
@pytest.mark.parametrize("as_binary", [False, True])
def test_a_missing_attribute_is_named(name: str, as_binary: bool) -> None:  # noqa: FBT001
    headers = (*binary(**{name: ...}), ("ce_specversion", b"1.0")) if as_binary else STRUCTURED
    if as_binary and name == "specversion":
        headers = (*binary(specversion=...), ("ce_specversion", b"0.3"))
    problem = refused(DATA if as_binary else structured(DATA, **{name: ...}), headers)

    texts = {"id": "is not a text of one character or more", "specversion": "is not 1.0"} | {
        "source": "is not a text of one character or more"
    }
    assert problem == Undecodable(name, texts.get(name, "is missing"))


@pytest.mark.parametrize(
    ("value", "field", "problem"),
    [
        (structured(None), "data", "is missing"),
        (structured(b"null"), "data", "is a JSON null, not a JSON object"),
        (structured(b"[1]"), "data", "is a JSON array, not a JSON object"),
        (structured(data_base64="e30="), "data_base64", "is here: data of a canonical event are a JSON object"),
        (structured(type=7), "type", "is a JSON number, not a JSON string"),
        (structured(id=7), "id", "is not a text of one character or more"),
        (structured(type="x" * 129), "type", "has 129 characters, not 1 to 128"),
        (structured(time="yesterday"), "time", "is not an RFC 3339 date-time with offset: 'yesterday'"),
        (structured(idempotencykey=""), "idempotencykey", "has 0 characters, not 1 to 256"),
        (structured(specversion="0.3"), "specversion", "is not 1.0"),
    ],
)
def test_a_broken_rule_names_the_attribute(value: bytes, field: str, problem: str) -> None:
    assert refused(value) == Undecodable(field, problem)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"[]",
        b"\xff",
        b"\0\0\0\0\x07{}",
        b"[" * 100_000,
        structured(b"{"),
        structured(b'{"a": "\xff"}'),
        structured().replace(b'"/billing"', b'"\\ud800"'),
        structured().replace(b'"subject"', b'"\\ud800"'),
    ],
)
def test_another_value_is_refused(value: bytes | None) -> None:
    problem = refused(value)
    assert problem.field == "value"
    assert problem.problem.startswith("is not one JSON object in UTF-8: ")


def test_a_broken_rule_names_the_attribute_in_binary_mode_too() -> None:
    problem = refused(DATA, binary(customerexternalid=""))
    assert problem == Undecodable("customerexternalid", "has 0 characters, not 1 to 256")
    assert refused(b"[]", binary()) == Undecodable("data", "is a JSON array, not a JSON object")


@pytest.mark.parametrize("more", [b', "customerExternalId": "acct_other"', b'}, "x": {', b"{}", b"]"])
def test_data_cannot_add_members_to_the_event(more: bytes) -> None:
    problem = refused(DATA + more, binary())
    assert (problem.field, problem.problem[:33]) == ("data", "is not one JSON object in UTF-8: ")


def test_too_deep_data_are_refused() -> None:
    deep = b'{"a":' * 1_001 + b"1" + b"}" * 1_001
    assert refused(deep, binary()) == Undecodable("value", "is nested more than 1000 levels deep")


def test_an_attribute_that_is_no_utf8_is_refused() -> None:
    assert refused(DATA, (*binary(), ("ce_subject", b"\xff"))) == Undecodable("subject", "is not UTF-8")


def test_binary_mode_needs_data() -> None:
    assert refused(None, binary()) == Undecodable("data", "is missing")
    assert refused(b"\x01", binary()).field == "data"
    assert refused(None, (*binary(), ("ce_data", b"{}"))) == Undecodable("data", "is missing")


@pytest.mark.parametrize("kind", ["application/cloudevents-batch+json", "application/cloudevents+avro"])
def test_another_media_type_of_cloudevents_is_named(kind: str) -> None:
    problem = refused(b"[]", (("content-type", kind.encode()),))
    assert problem == Undecodable(
        "content-type", f"is {kind}, not application/cloudevents+json: one CloudEvent in JSON"
    )
