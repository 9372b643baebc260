"""The accounts: every delivery there should have been, and what its traces say."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from pushrail_stream.core.copy import Copy
from pushrail_stream.core.cursor_state import CursorState
from pushrail_stream.core.delivery import Problem
from pushrail_stream.core.headers import DeliveryHeaders, encode_headers
from pushrail_stream.core.record import Record
from pushrail_stream.core.retry import DeadReason
from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.operations.accounts import Accounts, Tally, Topic
from pushrail_stream.operations.dead_letters import DeadLetterRecord, read_dead_letter
from pushrail_stream.operations.spill import Spill
from pushrail_stream.registry.directory import DestinationIndex
from tests.support.attempt_records import said
from tests.support.builders import destination
from tests.support.dead_letters import AT, event_record

PARTITION = event_record(0).partition
A, B = destination(0), destination(0, id="dst_b")
BOTH = DestinationIndex((d.id, d) for d in (A, B))


TOPIC = event_record(0).topic


@pytest.fixture(autouse=True)
def spill() -> Iterator[None]:
    """A file for every check of a test."""
    with ExitStack() as stack:
        _OPEN.append(stack)
        yield
        _OPEN.pop()


_OPEN: list[ExitStack] = []


def check(
    *offsets: int, directory: DestinationIndex = BOTH, committed: int = 100, topic_id: str | None = None, **changes: Any
) -> Accounts:
    """Everything below ``committed`` is settled; these events are on the topic, one a second."""
    spill = _OPEN[-1].enter_context(Spill.open())
    found = Accounts(spill, Topic(TOPIC, topic_id), directory, "acme", **changes)
    found.set_committed(PARTITION, committed, [])
    for offset in offsets:
        found.add_event(event_record(0, offset)._replace(timestamp_ms=AT + 1000 * offset))
    return found


def tally(found: Accounts) -> Tally:
    counted = Tally()
    for status, delivery in found.deliveries():
        counted.add(status, delivery)
    return counted


def attempt(
    found: Accounts, offset: int, destination_id: str | None, status: str = "delivered", **changes: Any
) -> None:
    origin = {"topic": "pushrail.events", "partition": PARTITION, "offset": offset}
    at = format_rfc3339(AT + 1000 * offset + 100)
    record = said(0, origin=origin, destinationId=destination_id, status=status, at=at) | changes
    found.add_attempt(json.dumps(record).encode())


def letter(offset: int, destination_id: str | None = "dst_0", reason: DeadReason = "blocked") -> DeadLetterRecord:
    died = Copy(
        record=event_record(0, offset), reason=reason, failed_at_ms=AT, problem=Problem("code", "no"), attempts=1,
        destination_id=destination_id,
    )  # fmt: skip
    return read_dead_letter(Record("pushrail.dlq", 0, 1, b"k", died.record.value, died.headers(), AT), "acme")


def became(found: Accounts) -> dict[tuple[int, str | None], str]:
    return {(one.origin.offset, one.destination): status for status, one in found.deliveries()}


def test_every_delivery_has_one_end() -> None:
    found = check(1, 2, 3, 4)
    for offset, status in ((1, "delivered"), (2, "dead_lettered"), (3, "skipped"), (4, "retrying")):
        attempt(found, offset, "dst_0", status)
        attempt(found, offset, "dst_b")
    assert became(found) == {
        (1, "dst_0"): "delivered", (2, "dst_0"): "dead_lettered", (3, "dst_0"): "skipped", (4, "dst_0"): "missing",
        **{(offset, "dst_b"): "delivered" for offset in (1, 2, 3, 4)},
    }  # fmt: skip
    counted = tally(found)
    assert counted.total == {"delivered": 5, "dead_lettered": 1, "skipped": 1, "missing": 1}
    assert counted.by_destination["dst_b"] == {"delivered": 4}
    assert (found.events, counted.repeated, found.unreadable) == (4, 0, 0)


@pytest.mark.parametrize(
    "statuses", [("retrying", "delivered"), ("delivered", "dead_lettered"), ("delivered", "skipped")]
)
def test_delivered_wins_in_any_order(statuses: tuple[str, str]) -> None:
    for order in (statuses, statuses[::-1]):
        found = check(1, directory=DestinationIndex([("a", A)]))
        for status in order:
            attempt(found, 1, "dst_0", status)
        assert became(found) == {(1, "dst_0"): "delivered"}


def test_a_second_confirmation_is_a_repeat() -> None:
    found = check(1, 2, directory=DestinationIndex([("a", A)]))
    for offset in (1, 1, 2):
        attempt(found, offset, "dst_0")
    attempt(found, 2, "dst_0", trigger="replay")
    assert tally(found).repeated == 1


def test_dead_letters_are_counted_by_fault() -> None:
    found = check(1, 2, 3)
    found.add_dead_letter(letter(1, "dst_0", "blocked"))
    found.add_dead_letter(letter(2, None, "undecodable"))
    attempt(found, 3, "dst_b", "dead_lettered", reason="oversize")
    attempt(found, 1, "dst_b")
    attempt(found, 3, "dst_0")
    faults = Counter(one.fault for status, one in found.deliveries() if status == "dead_lettered")
    assert faults == {"customer": 2, "producer": 1}
    assert became(found)[2, None] == "dead_lettered"


@pytest.mark.parametrize(
    ("status", "replay", "now", "replaying"),
    [
        ("dead_lettered", "rp-1", "pending", 1),
        ("skipped", "rp-1", "pending", 1),
        ("delivered", "rp-1", "delivered", 1),
        ("dead_lettered", None, "dead_lettered", 0),
    ],
)
def test_a_waiting_replay_is_neither_missing_nor_done(
    status: str, replay: str | None, now: str, replaying: int
) -> None:
    found = check(1, directory=DestinationIndex([("a", A)]))
    attempt(found, 1, "dst_0", status, reason="blocked")
    copy = DeliveryHeaders(
        origin=event_record(0, 1).origin, attempts=0, reason="held", failed_at_ms=AT, destination="dst_0",
        replay=replay,
    )  # fmt: skip
    found.add_waiting(read_dead_letter(event_record(0)._replace(headers=encode_headers(copy, ())), "acme"))
    assert became(found) == {(1, "dst_0"): now}
    assert tally(found).replaying == replaying


def test_an_unfinished_delivery_is_pending() -> None:
    found = check(1, 2, 3, 4, committed=3)
    found.set_committed(PARTITION, 3, [4])
    waiting = DeliveryHeaders(
        origin=event_record(0, 1).origin, attempts=1, reason="retryable", failed_at_ms=AT, destination="dst_0"
    )
    found.add_waiting(read_dead_letter(Record("retry", 0, 1, b"k", b"{}", encode_headers(waiting, ()), AT), "acme"))
    found.add_waiting(read_dead_letter(Record("retry", 0, 2, b"k", b"{}", (), AT), "acme"))
    attempt(found, 1, "dst_0", "retrying")
    attempt(found, 1, "dst_b")
    attempt(found, 3, "dst_0")
    assert became(found) == {
        (1, "dst_0"): "pending", (1, "dst_b"): "delivered",
        (2, "dst_0"): "missing", (2, "dst_b"): "missing",
        (3, "dst_0"): "delivered", (3, "dst_b"): "pending",
        (4, "dst_0"): "missing", (4, "dst_b"): "missing",
    }  # fmt: skip


def test_an_event_on_a_cursor_is_pending_for_its_destination_alone() -> None:
    found = check(*range(10))
    cursor = CursorState(destination_id="dst_0", since=3, next=6, to=8, oldest_ms=1, opened_ms=1, open=(2, 4))
    found.set_cursors(PARTITION, [cursor])
    for offset in range(10):
        attempt(found, offset, "dst_b")
    attempt(found, 7, "dst_0")
    attempt(found, 4, "dst_0", "retrying")
    seen = {offset: status for (offset, destination), status in became(found).items() if destination == "dst_0"}
    assert [offset for offset, status in seen.items() if status == "pending"] == [2, 4, 6]
    assert seen[7] == "delivered"
    assert {seen[offset] for offset in (0, 1, 3, 5, 8, 9)} <= {"missing", "too_new"}, "they are settled there"
    other = check(2)
    other.set_cursors(PARTITION + 1, [cursor])
    attempt(other, 2, "dst_b")
    attempt(other, 1, "dst_0")
    assert became(other)[2, "dst_0"] == "missing", "the cursor is on another partition"


def test_a_delivery_may_be_on_a_cursor_that_cannot_be_read() -> None:
    found = check(1, 2)
    found.set_unreadable_cursors(PARTITION)
    attempt(found, 1, "dst_b")
    attempt(found, 1, "dst_0", "retrying")
    seen = became(found)
    assert (seen[1, "dst_b"], seen[1, "dst_0"], seen[2, "dst_b"]) == ("delivered", "pending", "pending")


def test_a_destination_without_any_is_not_new() -> None:
    """Of two destinations the second was sent nothing; only what lies before these events tells that it was there."""
    found = check(1, 2)
    attempt(found, 1, "dst_0")
    attempt(found, 2, "dst_0")
    assert became(found) == {
        (1, "dst_0"): "delivered", (1, "dst_b"): "too_new", (2, "dst_0"): "delivered", (2, "dst_b"): "too_new",
    }  # fmt: skip
    assert found.unseen_destinations() == {"dst_b"}
    found.mark_seen("dst_b")
    assert became(found) == {
        (1, "dst_0"): "delivered", (1, "dst_b"): "missing", (2, "dst_0"): "delivered", (2, "dst_b"): "missing",
    }  # fmt: skip
    assert not found.unseen_destinations()


def test_a_destination_counts_from_its_first_sign() -> None:
    found = check(1, 2, 3)
    for offset in (1, 2, 3):
        attempt(found, offset, "dst_0")
    attempt(found, 2, "dst_b")
    assert became(found) == {
        **{(offset, "dst_0"): "delivered" for offset in (1, 2, 3)},
        (1, "dst_b"): "too_new", (2, "dst_b"): "delivered", (3, "dst_b"): "missing",
    }  # fmt: skip


def test_an_unrouted_event_is_one_delivery() -> None:
    found = check(1, 2, directory=DestinationIndex())
    attempt(found, 1, None, "skipped")
    assert became(found) == {(1, None): "skipped", (2, None): "missing"}
    # Its destinations have come since.
    later = check(1)
    attempt(later, 1, None, "skipped")
    assert became(later) == {(1, None): "skipped"}


def test_one_customer_can_be_selected() -> None:
    found = check(1, customer="acct_1", directory=DestinationIndex([("1", destination(1))]))
    found.add_event(event_record(1, 2))
    found.add_event(event_record(1, 3)._replace(value=b"{"))
    assert became(found) == {(2, "dst_1"): "missing"}
    assert found.events == 1


def test_unrelated_records_change_nothing() -> None:
    found = check(1)
    good = {
        "origin": {"topic": event_record(0).topic, "partition": PARTITION, "offset": 1},
        "status": "delivered",
        "at": "2026",
    }
    forged = [
        good | {"origin": {"topic": "t", "partition": [], "offset": {}}},
        *(good | {name: [[]]} for name in ("status", "at", "destinationId")),
        *(good | {name: {}} for name in ("status", "at", "destinationId")),
        good | {"destinationId": 7},
        good | {"at": 7},
    ]
    values = [None, b"{", b"[]", b'{"origin": {}}', b'{"origin": 1, "status": "delivered", "at": ""}', b"[" * 100_000]
    values += [json.dumps(value).encode() for value in forged]
    for value in values:
        found.add_attempt(value)
    assert found.unreadable == len(values)
    attempt(found, 9, "dst_0")
    attempt(found, 1, "dst_0", "imagined")
    attempt(found, 1, "dst_0", origin={"topic": "other", "partition": PARTITION, "offset": 1})
    found.add_dead_letter(letter(9))
    assert became(found) == {(1, "dst_0"): "missing", (1, "dst_b"): "missing"}


@pytest.mark.parametrize("named", ["another-id", "this-id", None])
def test_old_traces_do_not_certify_a_new_topic(named: str | None) -> None:
    """The positions are the same: only the topic's id tells the records apart."""
    found = check(1, 2, 3, directory=DestinationIndex([("a", A)]), topic_id="this-id")
    identity = {} if named is None else {"topicId": named}
    attempt(found, 1, "dst_0", origin={"topic": TOPIC, "partition": PARTITION, "offset": 1, **identity})
    dead = letter(2)
    origin = dead.origin._replace(topic_id=named)
    found.add_dead_letter(replace(dead, origin=origin))
    found.add_waiting(replace(dead, origin=origin._replace(offset=3)))
    is_of_the_other = named == "another-id"
    assert became(found) == {
        (1, "dst_0"): "missing" if is_of_the_other else "delivered",
        (2, "dst_0"): "missing" if is_of_the_other else "dead_lettered",
        (3, "dst_0"): "missing" if is_of_the_other else "pending",
    }


def test_memory_stays_flat() -> None:
    """Well below the 1 KB an event that Python's objects would take."""
    few, many = 11_000, 22_000
    grown = []
    for count in (few, many):
        found = check(directory=DestinationIndex([("a", A)]))
        events = (event_record(0, offset)._replace(timestamp_ms=AT) for offset in range(count))
        tracemalloc.start()
        for event in events:
            found.add_event(event)
        for offset in range(count):
            attempt(found, offset, "dst_0")
        assert tally(found).total == {"delivered": count}
        grown.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert grown[1] - grown[0] < 2**20


def test_removed_offsets_are_not_counted() -> None:
    found = check(1, directory=DestinationIndex([("a", A)]))
    for offset in (-1, 2**63, 2**70):
        waiting = letter(1)
        found.add_waiting(replace(waiting, origin=waiting.origin._replace(offset=offset)))
    assert became(found) == {(1, "dst_0"): "missing"}
