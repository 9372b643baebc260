"""A retry copy's headers say everything the next owner of the delivery has to know (contract 3.4)."""

from __future__ import annotations

import dataclasses

from pushrail_stream.core.delivery import Problem
from pushrail_stream.core.headers import DeliveryHeaders, decode_headers
from pushrail_stream.core.record import Origin, Record
from pushrail_stream.core.retry import Tier
from pushrail_stream.core.retry_copy import RetryCopy
from tests.support import samples

OWN = (("traceparent", b"00-1"), ("pushrail-vendor", b"acme"))
RECORD = Record("pushrail.events", 3, 42, b"acct", samples.EXAMPLE, OWN, 0)
COPY = RetryCopy(
    record=RECORD,
    event=samples.event(),
    destination_id="dst_acme",
    tier=Tier("pushrail.retry.2m", 120),
    reason="retryable",
    attempts=3,
    first_attempt_ms=1_780_000_000_000,
    failed_at_ms=1_780_000_010_000,
    problem=Problem("503", "come back later", "req-1"),
)


def test_the_headers_are_the_contracts() -> None:
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


def test_what_was_never_tried_has_no_error() -> None:
    held = dataclasses.replace(COPY, reason="held", attempts=0, problem=None)
    read = decode_headers(held.headers())
    assert isinstance(read, DeliveryHeaders)
    assert (read.reason, read.attempts, read.error_code, read.request_id) == ("held", 0, None, None)
    assert read.origin == Origin("pushrail.events", 3, 42)


def test_an_earlier_hops_headers_are_replaced() -> None:
    again = dataclasses.replace(COPY, record=RECORD._replace(headers=COPY.headers()), attempts=4)
    assert len(again.headers()) == len(COPY.headers())
    assert dict(again.headers())["pushrail-attempts"] == b"4"
