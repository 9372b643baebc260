"""Copies: their headers carry the whole state of a delivery to the DLQ or to a retry topic."""

from __future__ import annotations

import dataclasses

from pushrail_stream.core.copy import Copy
from pushrail_stream.core.delivery import Problem
from pushrail_stream.core.headers import DeliveryHeaders, decode_headers, producer_headers
from pushrail_stream.core.record import Origin, Record
from pushrail_stream.core.retry import Tier
from tests.support import samples
from tests.support.samples import example_record

OWN = (("traceparent", b"00-1-2-3"), ("note", None), ("note", b"\xff"))
LETTER = Copy(
    record=example_record(4711, headers=OWN),
    reason="blocked",
    attempts=3,
    failed_at_ms=1_779_805_270_001,
    problem=Problem("AccessDeniedException", "not allowed", "request-1"),
    destination_id="dst_acme",
    first_attempt_ms=1_779_805_268_493,
)
RETRY_OWN = (("traceparent", b"00-1"), ("pushrail-vendor", b"acme"))
RECORD = Record("pushrail.events", 3, 42, b"acct", samples.EXAMPLE, RETRY_OWN, 0)
COPY = Copy(
    record=RECORD,
    event=samples.decode_example(),
    destination_id="dst_acme",
    tier=Tier("pushrail.retry.2m", 120),
    reason="retryable",
    attempts=3,
    first_attempt_ms=1_780_000_000_000,
    failed_at_ms=1_780_000_010_000,
    problem=Problem("503", "come back later", "req-1"),
)


def test_a_dead_letter_describes_its_delivery() -> None:
    assert decode_headers(LETTER.headers()) == DeliveryHeaders(
        origin=Origin("pushrail.events", 3, 4711),
        attempts=3,
        reason="blocked",
        failed_at_ms=1_779_805_270_001,
        destination="dst_acme",
        first_attempt_at_ms=1_779_805_268_493,
        error_code="AccessDeniedException",
        error_message="not allowed",
        request_id="request-1",
    )


def test_producer_headers_come_first_unchanged() -> None:
    assert LETTER.headers()[: len(OWN)] == OWN
    assert producer_headers(LETTER.headers()) == OWN


def test_tools_for_kafka_connect_find_its_names() -> None:
    headers = dict(LETTER.headers())
    assert headers["__connect.errors.topic"] == b"pushrail.events"
    assert headers["__connect.errors.partition"] == b"3"
    assert headers["__connect.errors.offset"] == b"4711"
    assert headers["__connect.errors.exception.message"] == b"blocked: AccessDeniedException: not allowed"


def test_an_undecodable_record_has_no_destination() -> None:
    problem = Problem("value", "value: is not JSON")
    letter = Copy(record=example_record(value=b"{"), reason="undecodable", failed_at_ms=0, problem=problem)
    names = [name for name, _ in letter.headers()]
    assert "pushrail-destination" not in names
    assert "pushrail-first-attempt-at" not in names
    assert "pushrail-request-id" not in names


def test_a_retry_copy_has_the_contracts_headers() -> None:
    assert dict(COPY.headers()) == {
        "traceparent": b"00-1",
        "pushrail-vendor": b"acme",
        "pushrail-destination": b"dst_acme",
        "pushrail-origin": b"pushrail.events/3/42",
        "pushrail-attempts": b"3",
        "pushrail-first-attempt-at": b"2026-05-28T20:26:40.000Z",
        "pushrail-failed-at": b"2026-05-28T20:26:50.000Z",
        "pushrail-not-before": b"1780000130000",
        "pushrail-reason": b"retryable",
        "pushrail-error-code": b"503",
        "pushrail-error-message": b"come back later",
        "pushrail-request-id": b"req-1",
    }


def test_a_copy_without_an_attempt_has_no_error() -> None:
    held = dataclasses.replace(COPY, reason="held", attempts=0, problem=None)
    read = decode_headers(held.headers())
    assert isinstance(read, DeliveryHeaders)
    assert (read.reason, read.attempts, read.error_code, read.request_id) == ("held", 0, None, None)
    assert read.origin == Origin("pushrail.events", 3, 42)


def test_an_earlier_hops_headers_are_replaced() -> None:
    again = dataclasses.replace(COPY, record=RECORD._replace(headers=COPY.headers()), attempts=4)
    assert len(again.headers()) == len(COPY.headers())
    assert dict(again.headers())["pushrail-attempts"] == b"4"
