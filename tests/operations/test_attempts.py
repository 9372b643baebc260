"""Attempt records, read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.operations.attempt_index import AttemptIndex
from pushrail_stream.operations.attempts import (
    Attempt,
    AttemptFilter,
    Summary,
    fit_for_index,
    read_attempt,
    row_of,
    why_of,
)
from tests.support.attempt_records import AT_MS, record, said, world


@pytest.mark.parametrize("value", [None, b"", b"{", b"[]", b"1", b"{}", b'{"at": 5}', b'{"at": "yesterday"}', b"\xff"])
def test_another_record_is_none(value: bytes | None) -> None:
    assert read_attempt(value) is None


def test_a_record_names_its_topics_id() -> None:
    origin = {"topic": "pushrail.events", "partition": 0, "offset": 1}
    known, unknown = said(1, origin=origin | {"topicId": "xTz2mJGYQ9uP8cVd0eLw3A"}), said(1, origin=origin)
    origins = [attempt.origin for one in (known, unknown, said(1, origin=5)) if (attempt := read_again(one))]
    assert [origin and origin.topic_id for origin in origins] == ["xTz2mJGYQ9uP8cVd0eLw3A", None, None]


def read_again(record: dict[str, Any]) -> Attempt | None:
    return read_attempt(json.dumps(record).encode())


JSON = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"status": "skipped", "reason": "no_destination"}, "no_destination"),
        (
            {
                "status": "dead_lettered", "reason": "blocked", "code": "AccessDenied",
                "message": "User: arn:aws:sts::1:assumed-role/w/x is not authorized to perform: sts:AssumeRole "
                "on resource: arn:aws:iam::2:role/r",
            },
            "blocked AccessDenied: not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::2:role/r",
        ),
        (
            {"status": "dead_lettered", "reason": "undecodable", "code": "payload", "message": "payload: is missing"},
            "undecodable payload: is missing",
        ),
    ],
)  # fmt: skip
def test_an_attempt_says_why_it_did_not_deliver(changes: dict[str, Any], why: str) -> None:
    attempt = read_again(said(1) | changes)
    assert attempt is not None
    assert (why_of(attempt), row_of(attempt)[6]) == (why, why.replace(" on resource: arn:aws:iam::2:role/r", ""))


@given(st.dictionaries(st.sampled_from(["origin", "status", "code", "idempotencyKey", "eventType"]), JSON))
def test_any_record_is_shown_and_indexed(changes: dict[str, Any]) -> None:
    attempt = read_attempt(json.dumps(said(1) | changes).encode())
    assert attempt is not None
    assert all(isinstance(cell, str) for cell in row_of(attempt))
    summary = Summary()
    summary.add(attempt)
    assert summary.statuses.total() == 1
    assert AttemptFilter().matches(attempt)
    with AttemptIndex.open(Path(":memory:"), "t") as index:
        one = fit_for_index(record(1, attempt.text))
        assert one is not None
        index.add([one], {0: 2})
        assert index.count() == 1


def test_a_summary_counts_by_status() -> None:
    summary = Summary()
    for n, value in enumerate(world()):
        attempt = read_attempt(record(n, value).value)
        assert attempt is not None
        summary.add(attempt)
    assert summary.statuses == {"delivered": 8, "retrying": 1}
    assert summary.codes == {"ThrottlingException": 1}
    assert summary.destinations == {"dst_0": 3, "dst_1": 3, "dst_2": 3}
    assert (summary.oldest_ms, summary.newest_ms) == (AT_MS, AT_MS + 8000)


def test_a_filter_may_mean_one_event() -> None:
    assert AttemptFilter(key="k").names_one_event
    assert AttemptFilter(origin="o").names_one_event
    assert not replace(AttemptFilter(), customer="c").names_one_event
