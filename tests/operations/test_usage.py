"""Usage: months, and amounts by customer and by destination."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.operations.attempts import read_attempt
from pushrail_stream.operations.usage import Amount, By, Subject, Usage, parse_month, this_month
from tests.support.attempt_records import AT_MS, said


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("2026-11", "2026-11-01", "2026-12-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2028-02", "2028-02-01", "2028-03-01"),
        ("1970-01", "1970-01-01", "1970-02-01"),
    ],
)
def test_a_month_begins_and_ends_at_midnight(text: str, since: str, until: str) -> None:
    month = parse_month(text)
    assert month is not None
    assert [format_rfc3339(at) for at in month] == [f"{day}T00:00:00.000Z" for day in (since, until)]


@pytest.mark.parametrize("text", ["", "2026", "2026-13", "2026-00", "2026-1", "1969-12", "9999-12", "2026-11-01", "x"])
def test_another_text_is_no_month(text: str) -> None:
    assert parse_month(text) is None


def test_the_present_month_is_a_month() -> None:
    assert parse_month(this_month()) is not None


def counted(by: By, *records: dict[str, Any]) -> Usage:
    usage = Usage(is_complete=True)
    for one in records:
        attempt = read_attempt(json.dumps(one).encode())
        assert attempt is not None
        usage.add(attempt, by)
    return usage


RECORDS = (
    said(0, entryBytes=900),
    said(1, entryBytes=65_537),
    said(3, entryBytes=65_536),
    said(4, entryBytes=1, vendor="globex"),
    said(6, entryBytes=10, destinationId="dst_other"),
)


def test_amounts_are_those_of_each_customer() -> None:
    found = counted("customer", *RECORDS)
    assert dict(found.amounts) == {
        Subject("acme", "acct_0", None): Amount(3, 900 + 65_536 + 10, 3),
        Subject("acme", "acct_1", None): Amount(1, 65_537, 2),
        Subject("globex", "acct_1", None): Amount(1, 1, 1),
    }
    assert found.total == Amount(5, 900 + 65_537 + 65_536 + 1 + 10, 6)
    assert [subject.customer for subject, _ in found.largest_first()] == ["acct_0", "acct_1", "acct_1"]
    assert (found.oldest_ms, found.unsized) == (AT_MS, 0)


def test_amounts_are_those_of_each_destination() -> None:
    found = counted("destination", *RECORDS)
    assert {subject: amount.units for subject, amount in found.amounts.items()} == {
        Subject("acme", "acct_0", "dst_0"): 2,
        Subject("acme", "acct_1", "dst_1"): 2,
        Subject("globex", "acct_1", "dst_1"): 1,
        Subject("acme", "acct_0", "dst_other"): 1,
    }


@pytest.mark.parametrize("size", [None, "12", -1, True, 1.5])
def test_a_record_without_a_size_is_a_delivery(size: Any) -> None:
    found = counted("customer", said(0, entryBytes=size))
    assert (found.total, found.unsized) == (Amount(1, 0, 0), 1)
