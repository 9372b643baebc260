"""Calls of the simulated AWS as evidence."""

from __future__ import annotations

from tests.simulation.aws import records
from tests.simulation.oracle.calls import calls_of
from tests.simulation.oracle.cloud_events import CloudEvents
from tests.simulation.oracle.evidence import Entry

BUS = "arn:aws:events:us-east-1:123456789012:event-bus/one"


def test_entries_have_the_texts_that_were_sent() -> None:
    taken = records.EntryTruth(BUS, "key-1", True, True, "", "", "id-1", "{}", ("acct", "key-1"))
    refused = records.EntryTruth(BUS, "key-2", False, False, "InternalFailure", "aws", "", "[]", ("acct", "key-2"))
    call = records.Call(0, "PutEvents", "us-east-1", 5.0, host="worker-1", request_id="r", status=200)
    call.entries, call.answered_at = [refused, taken], 5.1
    (found,) = calls_of([call], CloudEvents(()))
    assert (found.at, found.host, found.target, found.request_id, found.answered_at) == (5.0, "worker-1", BUS, "r", 5.1)
    assert found.entries == (
        Entry(b"[]", ("acct", "key-2"), None, "InternalFailure", "moment"),
        Entry(b"{}", ("acct", "key-1"), "id-1"),
    )
    assert not found.is_good
    assert found.is_clear


def test_an_entry_that_vanished_was_taken_all_the_same() -> None:
    call = records.Call(0, "PutEvents", "us-east-1", 5.0, status=200)
    call.entries = [records.EntryTruth(BUS, "key-1", False, True, "", "customer", "id-1", "{}", ("acct", "key-1"))]
    (found,) = calls_of([call], CloudEvents(()))
    assert found.entries == (Entry(b"{}", ("acct", "key-1"), "id-1", "", "customer"),)


def test_a_garbled_answer_is_not_clear() -> None:
    call = records.Call(0, "PutEvents", "us-east-1", 5.0, status=200, fault="garbled_after long_request_id")
    call.answered_at = 5.1
    assert not calls_of([call], CloudEvents(()))[0].is_clear


def test_other_calls_have_their_target() -> None:
    sign_in = records.Call(0, "AssumeRole", "us-east-1", 5.0, role="arn:role", status=403, blame="customer")
    question = records.Call(1, "DescribeEventBus", "us-east-1", 5.0, bus=BUS, role="arn:role")
    found = calls_of([sign_in, question], CloudEvents(()))
    assert [(call.target, call.status, call.fault) for call in found] == [
        ("arn:role", 403, "customer"),
        (BUS, None, None),
    ]
