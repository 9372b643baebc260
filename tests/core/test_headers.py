"""Delivery headers: encoding and decoding are inverses, and the producer's headers stay unchanged."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.headers import (
    BadHeader,
    DeliveryHeaders,
    connect_headers,
    decode_headers,
    encode_headers,
    producer_headers,
)
from pushrail_stream.core.record import Headers, Origin
from tests.support.samples import texts

FULL = DeliveryHeaders(
    origin=Origin("pushrail.events", 3, 4711, "xTz2mJGYQ9uP8cVd0eLw3A"),
    attempts=5,
    reason="retryable",
    failed_at_ms=1_779_805_270_001,
    destination="dst_acme",
    first_attempt_at_ms=1_779_805_268_493,
    not_before_ms=1_779_805_280_000,
    error_code="ThrottlingException",
    error_message="Rate exceeded für Zürich",
    request_id="7f1c2d54-9d58-4d0e-8f4f-6a1f0f3d2b1c",
    replay="replay_1",
    replay_count=2,
)
WRITTEN: dict[str, str] = {
    "pushrail-destination": "dst_acme",
    "pushrail-origin": "pushrail.events/3/4711",
    "pushrail-origin-topic-id": "xTz2mJGYQ9uP8cVd0eLw3A",
    "pushrail-attempts": "5",
    "pushrail-first-attempt-at": "2026-05-26T14:21:08.493Z",
    "pushrail-failed-at": "2026-05-26T14:21:10.001Z",
    "pushrail-not-before": "1779805280000",
    "pushrail-reason": "retryable",
    "pushrail-error-code": "ThrottlingException",
    "pushrail-error-message": "Rate exceeded für Zürich",
    "pushrail-request-id": "7f1c2d54-9d58-4d0e-8f4f-6a1f0f3d2b1c",
    "pushrail-replay": "replay_1",
    "pushrail-replay-count": "2",
}

counts = st.integers(0, 2**31 - 1)
moments = st.integers(-62_135_596_800_000, 253_402_300_799_999)
states = st.builds(
    DeliveryHeaders,
    origin=st.builds(Origin, texts, counts, st.integers(0, 2**63 - 1), st.none() | texts),
    attempts=counts,
    reason=texts,
    failed_at_ms=moments,
    destination=st.none() | texts,
    first_attempt_at_ms=st.none() | moments,
    not_before_ms=st.none() | moments,
    error_code=st.none() | texts,
    error_message=st.none() | texts,
    request_id=st.none() | texts,
    replay=st.none() | texts,
    replay_count=st.none() | counts,
)
forged_values = (
    st.none()
    | st.binary(max_size=30)
    | st.integers().map(lambda number: str(number).encode())
    | st.sampled_from([b"9" * 19, b"-1", b"+1", b"1_0", b" 1", "\u0663".encode(), b"9" * 5000, b"1e3"])
    | st.from_regex(
        rb"(0000|0001|9999)-(01-01|12-31)T(00:00|23:59):(00|59|60)(\.[0-9]{1,9})?(Z|[+-](00:00|01:00|23:59))",
        fullmatch=True,
    )
    | st.from_regex(rb"[a-z/]{0,4}/-?[0-9]{1,22}/-?[0-9]{1,22}", fullmatch=True)
)
names = texts | st.sampled_from(["traceparent", "pushrail-vendor", "pushrail-attempt", "Pushrail-Origin", "__connect"])
own_headers = st.lists(st.tuples(names, st.none() | st.binary(max_size=20)), max_size=6).map(
    lambda drawn: tuple(h for h in drawn if h[0] not in WRITTEN and not h[0].startswith("__connect.errors."))
)


def test_the_headers_of_the_contract() -> None:
    assert encode_headers(FULL, ()) == tuple((name, text.encode()) for name, text in WRITTEN.items())


def test_an_unknown_value_has_no_header() -> None:
    least = DeliveryHeaders(origin=Origin("t", 0, 0), attempts=0, reason="undecodable", failed_at_ms=0)
    assert [name for name, _ in encode_headers(least, ())] == [
        "pushrail-origin",
        "pushrail-attempts",
        "pushrail-failed-at",
        "pushrail-reason",
    ]


@given(states, own_headers)
def test_decoding_inverts_encoding(state: DeliveryHeaders, own: Headers) -> None:
    written = encode_headers(state, own)
    assert decode_headers(written) == state
    assert producer_headers(written) == own
    assert written[: len(own)] == own


@given(states, states, own_headers)
def test_the_next_hop_replaces_older_headers(first: DeliveryHeaders, second: DeliveryHeaders, own: Headers) -> None:
    hop = (*encode_headers(first, own), *connect_headers(first.origin, "old"))
    assert encode_headers(second, hop) == encode_headers(second, own)


@given(st.lists(st.tuples(st.sampled_from([*WRITTEN, "x"]), forged_values), max_size=20))
def test_a_read_header_value_is_encodable(headers: list[tuple[str, bytes | None]]) -> None:
    read = decode_headers((*encode_headers(FULL, ()), *headers))
    if isinstance(read, DeliveryHeaders):
        assert decode_headers(encode_headers(read, ())) == read
    else:
        assert isinstance(read, BadHeader)
        assert read.header in WRITTEN


@pytest.mark.parametrize("name", ["pushrail-origin", "pushrail-attempts", "pushrail-failed-at", "pushrail-reason"])
def test_a_missing_required_header_is_named(name: str) -> None:
    headers = encode_headers(FULL, ())
    assert decode_headers(tuple(h for h in headers if h[0] != name)) == BadHeader(name, "is missing")
    assert decode_headers((*headers, (name, None))) == BadHeader(name, "is missing")
    assert decode_headers(()) == BadHeader("pushrail-origin", "is missing")


@pytest.mark.parametrize(
    "bad",
    [
        ("pushrail-origin", b"pushrail.events"),
        ("pushrail-origin", b"pushrail.events/3"),
        ("pushrail-origin", b"pushrail.events/three/4711"),
        ("pushrail-attempts", b""),
        ("pushrail-attempts", b"many"),
        ("pushrail-attempts", b"1.5"),
        ("pushrail-attempts", b"9" * 5000),
        ("pushrail-attempts", b"2147483648"),
        ("pushrail-attempts", b"-1"),
        ("pushrail-attempts", b"1_000"),
        ("pushrail-attempts", b" 5"),
        ("pushrail-attempts", "\u0663".encode()),
        ("pushrail-origin", b"pushrail.events/-1/4711"),
        ("pushrail-origin", b"pushrail.events/3/-4711"),
        ("pushrail-origin", b"pushrail.events/2147483648/4711"),
        ("pushrail-origin", b"pushrail.events/3/9223372036854775808"),
        ("pushrail-first-attempt-at", b"2026-05-26"),
        ("pushrail-failed-at", b"1779805270001"),
        ("pushrail-failed-at", b"9999-12-31T23:59:60Z"),
        ("pushrail-first-attempt-at", b"9999-12-31T23:59:59-00:01"),
        ("pushrail-first-attempt-at", b"0001-01-01T00:00:00+00:01"),
        ("pushrail-not-before", b"253402300800000"),
        ("pushrail-not-before", b"-9223372036854775808"),
        ("pushrail-replay-count", b"-1"),
        ("pushrail-not-before", b"2026-05-26T14:21:08Z"),
        ("pushrail-replay-count", b"twice"),
        *((name, b"\xff\xfe") for name in WRITTEN),
    ],
)
def test_an_invalid_header_is_named(bad: tuple[str, bytes]) -> None:
    refused = decode_headers((*encode_headers(FULL, ()), bad))
    assert isinstance(refused, BadHeader)
    assert refused.header == bad[0]
    assert refused.problem


def test_a_topic_name_may_have_the_separator() -> None:
    odd = dataclasses.replace(FULL, origin=Origin("a/b", 1, 2))
    assert decode_headers(encode_headers(odd, ())) == odd


def test_the_last_repeated_header_counts() -> None:
    headers = (("pushrail-attempts", b"many"), *encode_headers(FULL, ()))
    assert decode_headers(headers) == FULL


def test_a_time_that_is_no_number_is_a_bug() -> None:
    wrong = dataclasses.replace(FULL, failed_at_ms="2026")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="epoch milliseconds"):
        encode_headers(wrong, ())


def test_half_a_surrogate_pair_is_replaced() -> None:
    odd = dataclasses.replace(FULL, error_code="\ud83d", request_id="id-\udcff")
    written = dict(encode_headers(odd, ()))
    assert (written["pushrail-error-code"], written["pushrail-request-id"]) == (b"?", b"id-?")
    assert dict(connect_headers(FULL.origin, "\ud83d"))["__connect.errors.exception.message"] == b"?"


def test_kafka_connects_names() -> None:
    assert connect_headers(Origin("pushrail.events", 3, 4711), "rejected: é") == (
        ("__connect.errors.topic", b"pushrail.events"),
        ("__connect.errors.partition", b"3"),
        ("__connect.errors.offset", b"4711"),
        ("__connect.errors.exception.message", "rejected: é".encode()),
    )
