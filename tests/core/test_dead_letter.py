"""Dead letters: whoever reads one on the DLQ learns why, how often, and where the event came from."""

from __future__ import annotations

from pushrail_stream.core.dead_letter import DeadLetterCopy
from pushrail_stream.core.headers import DeliveryHeaders, decode_headers, producer_headers
from pushrail_stream.core.record import Origin
from tests.support.samples import record

OWN = (("traceparent", b"00-1-2-3"), ("note", None), ("note", b"\xff"))
LETTER = DeadLetterCopy(
    record=record(4711, headers=OWN),
    reason="blocked",
    attempts=3,
    failed_at_ms=1_779_805_270_001,
    code="AccessDeniedException",
    message="not allowed",
    destination_id="dst_acme",
    first_attempt_ms=1_779_805_268_493,
    request_id="request-1",
)


def test_a_dead_letter_says_everything_about_its_delivery() -> None:
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


def test_the_producers_headers_come_first_and_unchanged() -> None:
    assert LETTER.headers()[: len(OWN)] == OWN
    assert producer_headers(LETTER.headers()) == OWN


def test_tools_for_kafka_connect_find_its_names() -> None:
    headers = dict(LETTER.headers())
    assert headers["__connect.errors.topic"] == b"pushrail.events"
    assert headers["__connect.errors.partition"] == b"3"
    assert headers["__connect.errors.offset"] == b"4711"
    assert headers["__connect.errors.exception.message"] == b"blocked: AccessDeniedException: not allowed"


def test_a_record_nobody_can_decode_has_no_destination() -> None:
    letter = DeadLetterCopy(record(value=b"{"), "undecodable", 0, 0, "value", "value: is not JSON")
    names = [name for name, _ in letter.headers()]
    assert "pushrail-destination" not in names
    assert "pushrail-first-attempt-at" not in names
    assert "pushrail-request-id" not in names
