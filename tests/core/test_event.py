"""Events: the rules of a canonical event, and the errors of other records."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushrail_stream.core.event import MAX_LEVELS, Event, Undecodable, decode, problems, utf8_length, valid_traceparent
from pushrail_stream.core.headers import producer_headers
from pushrail_stream.core.record import NOT_UTF8, Headers
from pushrail_stream.eventbridge.entry import trace_header
from tests.support.samples import (
    EXAMPLE,
    decode_example,
    example_record,
    fields,
    json_bytes,
    json_values,
    refusal,
    texts,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def test_the_example_of_the_seed() -> None:
    decoded = decode(EXAMPLE, (), "acme")

    assert decoded == Event(
        vendor="acme",
        event_type="order.completed",
        occurred_at_ms=1_779_805_268_493,
        source="billing-service",
        customer_external_id="acct_8K2zRq",
        idempotency_key="order_38a91f-completed",
        correlation_id="req_4f30b2",
        traceparent=None,
        value=EXAMPLE,
        size=len(EXAMPLE) + len("order.completed") + len("acct_8K2zRq") + len("order_38a91f-completed"),
    )


STRINGS = ["eventType", "occurredAt", "source", "customerExternalId", "idempotencyKey", "correlationId"]
OBJECTS = ["payload", "metadata"]
OPTIONAL = ["correlationId", "metadata"]
NOT_A_STRING: list[tuple[Any, str]] = [
    (None, "null"),
    (1, "number"),
    (1.5, "number"),
    (True, "boolean"),
    ([], "array"),
    ({}, "object"),
]
NOT_AN_OBJECT: list[tuple[Any, str]] = [
    (None, "null"),
    (0, "number"),
    (False, "boolean"),
    (["a"], "array"),
    ("{}", "string"),
]


@pytest.mark.parametrize("name", [name for name in STRINGS + OBJECTS if name not in OPTIONAL])
def test_a_required_field_cannot_be_missing(name: str) -> None:
    assert refusal(json_bytes(fields(**{name: ...}))) == Undecodable(name, "is missing")


@pytest.mark.parametrize("name", OPTIONAL)
def test_an_optional_field_can_be_missing(name: str) -> None:
    assert decode_example(**{name: ...}).idempotency_key == "order_38a91f-completed"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [(name, value, f"is a JSON {kind}, not a JSON string") for name in STRINGS for value, kind in NOT_A_STRING]
    + [(name, value, f"is a JSON {kind}, not a JSON object") for name in OBJECTS for value, kind in NOT_AN_OBJECT],
)
def test_a_field_of_another_type_is_named(name: str, value: Any, problem: str) -> None:
    assert refusal(json_bytes(fields(**{name: value}))) == Undecodable(name, problem)


@pytest.mark.parametrize(
    ("name", "longest"), [("eventType", 128), ("customerExternalId", 256), ("idempotencyKey", 256)]
)
@pytest.mark.parametrize("character", ["x", "é", "🚆"])
def test_lengths_count_characters(name: str, longest: int, character: str) -> None:
    for length in (1, longest):
        decoded = decode_example(**{name: character * length})
        assert character * length in decoded
    for length in (0, longest + 1):
        assert refusal(json_bytes(fields(**{name: character * length}))) == Undecodable(
            name, f"has {length} characters, not 1 to {longest}"
        )


@pytest.mark.parametrize("name", ["source", "correlationId"])
def test_other_strings_may_be_empty_or_long(name: str) -> None:
    assert "" in decode_example(**{name: ""})
    assert "x" * 5000 in decode_example(**{name: "x" * 5000})


def test_a_missing_optional_field_hides_no_error() -> None:
    told = refusal(json_bytes(fields(correlationId=..., payload=[])))

    assert told == Undecodable("payload", "is a JSON array, not a JSON object")


def test_the_first_broken_rule_is_named_in_one_line() -> None:
    assert str(refusal(b"{}")) == "eventType: is missing"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        pytest.param(None, "null", id="tombstone"),
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"  \n", "", id="blank"),
        pytest.param(b"null", "JSON null", id="JSON null"),
        pytest.param(b"[]", "JSON array", id="array"),
        pytest.param(b'"{}"', "JSON string", id="string"),
        pytest.param(b"1", "JSON number", id="number"),
        pytest.param(b"true", "JSON boolean", id="boolean"),
        pytest.param(b"{}{}", "", id="two objects"),
        pytest.param(EXAMPLE[:-3], "", id="cut short"),
        pytest.param(b"\xef\xbb\xbf" + EXAMPLE, "BOM", id="byte order mark"),
        pytest.param(EXAMPLE.decode().encode("utf-16"), "", id="UTF-16"),
        pytest.param(b"\x00" + EXAMPLE, "", id="NUL"),
        pytest.param(b'{"eventType": "a\xff"}', "UTF-8", id="invalid UTF-8"),
        pytest.param(b'{"eventType": "\xed\xa0\x80"}', "UTF-8", id="surrogate in UTF-8"),
        pytest.param(b'{"eventType": "\xc0\xaf"}', "UTF-8", id="overlong UTF-8"),
    ],
)
def test_only_a_json_object_is_an_event(value: bytes | None, told: str) -> None:
    refused = refusal(value)
    assert refused.field == "value"
    assert told in refused.problem


@pytest.mark.parametrize(
    "literal",
    ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", r'"\ud800"', r'"\udc00"', "01", "+1", ".5", "'a'", "undefined"],
)
def test_literals_outside_json_are_refused(literal: str) -> None:
    value = EXAMPLE.replace(b"12900", literal.encode(), 1)
    assert value != EXAMPLE
    assert refusal(value).field == "value"


@pytest.mark.parametrize(
    "literal", ["-0", "1E2", "1.0", "9223372036854775808", "0.1e-400", r'"\ud83d\ude86"', r'"\u0000"']
)
def test_valid_json_keeps_its_spelling(literal: str) -> None:
    value = EXAMPLE.replace(b"12900", literal.encode(), 1)
    decoded = decode(value, (), "acme")
    assert isinstance(decoded, Event)
    assert decoded.value is value


def test_of_a_repeated_field_the_last_one_counts() -> None:
    value = EXAMPLE.replace(b'"source"', b'"customerExternalId": "acct_other", "source"', 1)
    decoded = decode(value, (), "acme")
    assert isinstance(decoded, Event)
    assert decoded.customer_external_id == "acct_8K2zRq"


def test_unknown_fields_travel_on() -> None:
    decoded = decode_example(schemaVersion=3, links=[{"rel": "self"}], vendor="someone else")
    assert json.loads(decoded.value)["links"] == [{"rel": "self"}]
    assert decoded.vendor == "acme"


def nested(levels: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """The example with a payload that makes it this number of levels deep; event and payload are two of them."""
    inner = opening * (levels - 2) + b"1" + closing * (levels - 2)
    return json_bytes(fields(payload={"deep": "HERE"})).replace(b'"HERE"', inner)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_a_thousand_levels_is_the_limit(opening: bytes, closing: bytes) -> None:
    assert MAX_LEVELS == 1000
    assert isinstance(decode(nested(1000, opening, closing), (), "acme"), Event)
    assert refusal(nested(1001, opening, closing)) == Undecodable("value", "is nested more than 1000 levels deep")
    for levels in (1024, 1025, 1026, 100_000):  # the parser has a limit of its own
        assert refusal(nested(levels, opening, closing)) == refusal(nested(1001, opening, closing))


def test_only_nested_brackets_are_levels() -> None:
    assert decode_example(payload={"list": [[] for _ in range(2000)]})
    assert decode_example(payload={"text": "[{" * 2000, '"[\\"[[' * 500: "\\"})
    assert decode_example(payload={"text": 'a \\" quote, then ' + "[" * 2000 + "\\"})


def test_strings_with_brackets_add_no_levels() -> None:
    value = nested(1000).replace(b"1]", rb'"\\",["\"]]]]"]]')
    assert refusal(value).problem == "is nested more than 1000 levels deep"


def test_counting_levels_costs_little_memory() -> None:
    value = json_bytes(fields(payload={"text": "[x" * 300_000, "list": [[] for _ in range(1000)]}))
    tracemalloc.start()
    try:
        assert isinstance(decode(value, (), "acme"), Event)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(value)  # the parser's own; a careless pattern takes a hundred and twenty


@pytest.mark.parametrize(
    "moment",
    [
        "2026-05-26",
        "2026-05-26T14:21:08",
        "2026-W22-2T14:21:08Z",
        "yesterday",
        "",
        "1779805268",
        "2026-02-30T00:00:00Z",
    ],
)
def test_an_invalid_time_is_named(moment: str) -> None:
    refused = refusal(json_bytes(fields(occurredAt=moment)))
    assert refused == Undecodable("occurredAt", f"is not an RFC 3339 date-time with offset: {moment!r}")


def test_a_long_wrong_time_is_not_repeated_in_full() -> None:
    assert len(refusal(json_bytes(fields(occurredAt="9" * 100_000))).problem) < 200


@pytest.mark.parametrize(
    ("headers", "vendor"),
    [
        ((), "acme"),
        ((("other", b"x"),), "acme"),
        ((("pushrail-vendor", b"globex"),), "globex"),
        ((("pushrail-vendor", "zürich".encode()),), "zürich"),
        ((("pushrail-vendor", b"first"), ("pushrail-vendor", b"last")), "last"),
        ((("pushrail-vendor", b""), ("pushrail-vendor", b"last")), "last"),
        ((("pushrail-vendor", b"\xff"), ("pushrail-vendor", b"last")), "last"),
        ((("Pushrail-Vendor", b"globex"),), "acme"),
    ],
)
def test_the_last_vendor_header_wins(headers: Headers, vendor: str) -> None:
    assert decode_example(headers).vendor == vendor


@pytest.mark.parametrize(
    ("raw", "problem"),
    [(b"", "is empty"), (None, "is empty"), (b"\xff\xfe", "is not UTF-8"), (b"\xed\xa0\x80", "is not UTF-8")],
)
def test_an_empty_vendor_header_is_refused(raw: bytes | None, problem: str) -> None:
    # Not the default: the event would go to a customer of another vendor.
    assert refusal(EXAMPLE, (("pushrail-vendor", raw),)) == Undecodable("pushrail-vendor", problem)


def test_without_header_and_default_there_is_no_vendor() -> None:
    expected = Undecodable("vendor", "this setting is not set, and the record has no header pushrail-vendor")
    assert refusal(EXAMPLE, (), None) == expected
    assert refusal(EXAMPLE, (("other", b"x"),), None) == expected
    assert isinstance(decode(EXAMPLE, (("pushrail-vendor", b"globex"),), None), Event)


X_RAY = f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={SPAN};Sampled="


@pytest.mark.parametrize(
    ("traceparent", "header"),
    [
        (f"00-{TRACE}-{SPAN}-01", X_RAY + "1"),
        (f"00-{TRACE}-{SPAN}-00", X_RAY + "0"),
        (f"00-{TRACE}-{SPAN}-02", X_RAY + "0"),
        (f"00-{TRACE}-{SPAN}-ff", X_RAY + "1"),
        (f"01-{TRACE}-{SPAN}-01", X_RAY + "1"),
        (f"01-{TRACE}-{SPAN}-01-what-later-versions-add", X_RAY + "1"),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE[1:]}-{SPAN}-01", None),
        (f"00-{TRACE}0-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-1", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f" 00-{TRACE}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        (f"00-{TRACE}-{SPAN}-0é", None),
        ("", None),
    ],
)
def test_only_a_valid_traceparent_is_kept(traceparent: str, header: str | None) -> None:
    found = valid_traceparent(traceparent.encode())
    assert found == (None if header is None else traceparent)
    assert decode_example((("traceparent", traceparent.encode()),)).traceparent == found
    assert (found and trace_header(found)) == header


def test_a_traceparent_without_value_is_none() -> None:
    assert valid_traceparent(None) is None


@given(texts)
def test_utf_8_length_equals_the_encoded_length(text: str) -> None:
    assert utf8_length(text) == len(text.encode())


@given(st.binary() | texts.map(str.encode) | json_values.map(json_bytes), st.none() | texts)
def test_nothing_a_record_holds_can_raise(value: bytes, vendor: str | None) -> None:
    assert isinstance(decode(value, (), vendor), Event | Undecodable)


@settings(max_examples=50)
@given(
    st.dictionaries(st.sampled_from([*STRINGS, *OBJECTS]), json_values, min_size=1),
    st.lists(st.tuples(st.sampled_from(["pushrail-vendor", "traceparent", "x"]), st.none() | st.binary(max_size=60))),
)
def test_no_value_of_a_field_can_raise(changes: dict[str, Any], headers: list[tuple[str, bytes | None]]) -> None:
    decoded = decode(json_bytes(fields(**changes)), tuple(headers), "acme")
    if isinstance(decoded, Undecodable):
        assert decoded.field in {*changes, "pushrail-vendor"}


@settings(max_examples=50)
@given(
    changes=st.fixed_dictionaries(
        {
            "eventType": st.text(st.characters(codec="utf-8"), min_size=1, max_size=128),
            "customerExternalId": st.text(st.characters(codec="utf-8"), min_size=1, max_size=256),
            "idempotencyKey": st.text(st.characters(codec="utf-8"), min_size=1, max_size=256),
            "source": texts,
            "payload": st.dictionaries(texts, json_values, max_size=3),
        },
        optional={"correlationId": texts, "metadata": st.dictionaries(texts, json_values, max_size=3)},
    ),
    unknown=st.dictionaries(texts.map("x-{}".format), json_values, max_size=3),
    indent=st.sampled_from([None, 0, 3, "\t"]),
    escaped=st.booleans(),
)
def test_every_canonical_event_keeps_its_bytes(
    changes: dict[str, Any], unknown: dict[str, Any], indent: int | str | None, *, escaped: bool
) -> None:
    sent = {**unknown, **fields(**changes)}
    value = json.dumps(sent, indent=indent, ensure_ascii=escaped).encode()
    copy = bytes(bytearray(value))

    decoded = decode(example_record(value=value).value, (), "acme")

    assert isinstance(decoded, Event)
    assert decoded.value == copy
    assert decoded[1:2] + decoded[3:7] == (
        sent["eventType"],
        sent["source"],
        sent["customerExternalId"],
        sent["idempotencyKey"],
        sent.get("correlationId"),
    )


def test_all_broken_rules_are_found_for_the_ingest() -> None:
    value = json.dumps({"eventType": "", "occurredAt": "now", "source": 7, "payload": {}}).encode()
    assert [str(problem) for problem in problems(value)] == [
        "eventType: has 0 characters, not 1 to 128",
        "source: is a JSON number, not a JSON string",
        "customerExternalId: is missing",
        "idempotencyKey: is missing",
        "occurredAt: is not an RFC 3339 date-time with offset: 'now'",
    ]
    assert [problems(value) for value in (b"{", b"[]")] == [[], []], "decode says it all"
    assert problems(json.dumps({}).encode())[0] == decode(b"{}", (), "acme")


def test_the_trace_id_is_the_producers() -> None:
    traced = decode(EXAMPLE, (("traceparent", f"00-{TRACE}-{SPAN}-01".encode()),), "acme")
    plain = decode(EXAMPLE, (), "acme")
    assert isinstance(traced, Event)
    assert isinstance(plain, Event)
    assert (traced.trace_id, plain.trace_id) == (TRACE, None)


def test_a_header_name_outside_utf_8_is_refused() -> None:
    headers: Headers = (("tenant", b"1"), (NOT_UTF8, b"2"), (NOT_UTF8, None))
    assert decode(EXAMPLE, headers, "acme") == Undecodable(
        "headers", "2 of 3 names are not UTF-8; copies leave these headers out"
    )
    assert decode(b"{", headers, "acme") == decode(EXAMPLE, headers, "acme"), "the copy is said to lack headers"
    assert producer_headers(headers) == (("tenant", b"1"),)
