"""Dead letters and past events, chosen for a replay: each says where it goes, or why it stays."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.delivery import Replay
from pushrail_stream.core.event import Event, decode
from pushrail_stream.core.headers import DeliveryHeaders, decode_headers, producer_headers
from pushrail_stream.core.record import Record
from pushrail_stream.operations.dead_letters import (
    DeadLetterFilter,
    DeadLetterRecord,
    read_dead_letter,
)
from pushrail_stream.operations.replay_selection import (
    ANY_TIME,
    DeadLetterSelection,
    EventFilter,
    EventSelection,
    ReplayMark,
    ReplayProgress,
    copy_of,
    progress_mark,
    read_progress,
    read_replay_mark,
    read_spans,
    replay_mark,
    replay_mark_key,
    spans_text,
)
from pushrail_stream.registry.directory import DestinationIndex
from tests.support.builders import destination
from tests.support.dead_letters import AT, DLQ, event_record, forged, letter

DIRECTORY = DestinationIndex((d.id, d) for d in (destination(0), destination(1), destination(2, enabled=False)))


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (letter(0, value=b"{", reason="undecodable", destination_id=None), "undecodable"),
        (read_dead_letter(Record(DLQ, 0, 1, None, b"x", (("other", b"y"),), AT), None), "foreign"),
        (read_dead_letter(Record(DLQ, 0, 1, None, None, (), AT), None), "foreign"),
        (forged(), "foreign"),
    ],
)
def test_an_unsendable_letter_is_the_producers(found: DeadLetterRecord, reason: str) -> None:
    assert (found.reason, found.fault, found.destination) == (reason, "producer", None)
    assert found.original().value == found.record.value


def choice(**changes: Any) -> DeadLetterSelection:
    usual: dict[str, Any] = {"wanted": DeadLetterFilter(), "directory": DIRECTORY, "marks": {}, "replay_id": "rp-1"}
    return DeadLetterSelection(**usual | changes)


def marked(found: DeadLetterRecord, *, destination_id: str = "dst_0", **changes: Any) -> dict[str, bytes]:
    """The marks when this letter's delivery has been replayed once, a second after it died."""
    key = replay_mark_key(found, destination_id)
    return {key: replay_mark(key, ReplayMark("rp-0", AT + 1000, 1)._replace(**changes)).value}


def taken(choosing: DeadLetterSelection, *letters: DeadLetterRecord) -> list[tuple[str, int]]:
    """Destination and number of the replay of everything that is chosen, a minute after all died."""
    return [(one.destination_id, one.number) for found in letters for one in choosing.take(found, AT + 60_000)]


def test_letters_are_left_out_for_a_reason() -> None:
    choosing = choice(marks=marked(letter(1, failed_at_ms=AT), destination_id="dst_1"))
    assert taken(
        choosing, letter(0), letter(1), letter(2), letter(9),
        letter(0, replay=Replay("rp", 3), value=b"{}"),
        letter(0, value=b"{", reason="undecodable", destination_id=None),
        read_dead_letter(Record(DLQ, 0, 1, None, b"x", (), AT), "acme"),
    ) == [("dst_0", 1)]  # fmt: skip
    assert choosing.chosen == {("dst_0", "blocked", "customer"): 1}
    assert choosing.left_out == {
        "replayed before (--again repeats it)": 1,
        "its destination is disabled": 1,
        "its destination was deleted": 1,
        "another letter of a delivery that is replayed": 1,
        "cannot be decoded": 1,
        "no dead letter of ours (foreign)": 1,
    }
    tired = choice()
    assert taken(tired, letter(0, replay=Replay("rp", 3))) == []
    assert tired.left_out == {"replayed 3 times or more (--max-count)": 1}


def test_a_refused_document_is_not_deleted() -> None:
    choosing = choice(has_refused=True)
    assert taken(choosing, letter(9)) == []
    [why] = choosing.left_out
    assert "or its document is refused (`destinations validate`)" in why


def test_a_letter_without_hope_is_asked_for_by_its_reason() -> None:
    letters = [letter(0, reason="rejected"), letter(1, reason="oversize")]
    choosing = choice()
    assert taken(choosing, *letters) == []
    assert set(choosing.left_out) == {
        f"{reason}, which can only fail again (--reason {reason} replays it)" for reason in ("rejected", "oversize")
    }
    assert taken(choice(wanted=DeadLetterFilter(reasons=frozenset({"rejected"}))), *letters) == [("dst_0", 1)]


def test_again_takes_replayed_letters_too() -> None:
    found = letter(0, position=5)
    assert taken(choice(marks=marked(found)), found) == []
    assert taken(choice(marks=marked(found), again=True), found) == [("dst_0", 2)]
    other = choice(wanted=DeadLetterFilter(destination="dst_1"))
    assert taken(other, letter(0)) == []
    assert (other.chosen.total(), other.left_out.total()) == (0, 0)


def test_letters_of_one_delivery_are_sent_once() -> None:
    """A worker died between writing a letter and committing: the next one wrote it once more."""
    first, second = letter(0, position=1), letter(0, position=2, failed_at_ms=AT + 500)
    choosing = choice()
    assert taken(choosing, first, second) == [("dst_0", 1)]
    assert choosing.left_out == {"another letter of a delivery that is replayed": 1}
    later = choice(marks=choosing.marks, replay_id="rp-2")
    assert taken(later, first, second) == []
    assert later.left_out == {"replayed before (--again repeats it)": 2}


def test_a_replayed_death_is_sent_once_more() -> None:
    marks: dict[str, bytes] = {}
    letters = [letter(0, position=1)]
    for number in (1, 2, 3):
        choosing = choice(marks=marks, replay_id=f"rp-{number}", again=number > 1)
        assert taken(choosing, *letters) == [("dst_0", number)]
        # The worker's clock is behind: it died before it was sent.
        letters.append(letter(0, position=number + 1, replay=Replay(f"rp-{number}", number), failed_at_ms=AT + 1))
    last = choice(marks=marks, replay_id="rp-4", again=True)
    assert taken(last, *letters) == []
    assert last.left_out == {"replayed 3 times or more (--max-count)": 4}
    # Without a mark of its own the first letter has no count: a loop would have no end.
    only_first = choice(marks=marks, replay_id="rp-5", again=True)
    assert taken(only_first, letters[0]) == []


def test_a_mark_follows_the_delivery() -> None:
    """The DLQ was made anew: another delivery's letter lies where one lay that has been replayed."""
    marks = marked(letter(0, position=5))
    assert taken(choice(marks=marks), letter(1, position=5)) == [("dst_1", 1)]
    # And so was the events topic: what failed after the replay is nothing that was replayed.
    assert taken(choice(marks=marks), letter(0, failed_at_ms=AT + 2000)) == [("dst_0", 2)]


def test_an_unrouted_letter_is_routed_today() -> None:
    unrouted = letter(0, reason="rejected", code="NoDestination", destination_id=None)
    mended = letter(0, position=1, reason="undecodable", destination_id=None, attempts=0)
    for found in (unrouted, mended):
        assert taken(choice(), found) == [("dst_0", 1)]
        assert taken(choice(wanted=DeadLetterFilter(destination="dst_0")), found) == [("dst_0", 1)]
        assert taken(choice(wanted=DeadLetterFilter(destination="dst_1")), found) == []
        assert taken(choice(wanted=DeadLetterFilter(customer="acct_1")), found) == []
        assert taken(choice(marks=marked(found)), found) == []
    picky = DestinationIndex([("d", destination(0, event_types=("invoice.*",)))])
    for directory, why in (
        (picky, "filtered by its destinations"),
        (DestinationIndex(), "its customer has no destination"),
    ):
        nowhere = choice(directory=directory)
        assert taken(nowhere, unrouted) == []
        assert nowhere.left_out == {why: 1}


@given(st.binary(max_size=50) | st.none(), st.binary(max_size=9) | st.none(), st.integers(1, 9), st.integers(0, 2**40))
def test_a_copy_is_the_event_as_it_was_produced(
    value: bytes | None, key: bytes | None, count: int, now_ms: int
) -> None:
    original = event_record(0)._replace(value=value, key=key)
    copy = copy_of(original, "dst_0", "rp-1", count, now_ms)
    assert (copy.key, copy.value, producer_headers(copy.headers)) == (key, value, original.headers)
    state = decode_headers(copy.headers)
    assert state == DeliveryHeaders(
        origin=original.origin, attempts=0, reason="held", failed_at_ms=now_ms, destination="dst_0",
        not_before_ms=now_ms, replay="rp-1", replay_count=count,
    )  # fmt: skip


def test_a_copy_has_no_headers_of_its_death() -> None:
    died = letter(0, request_id="r", first_attempt_ms=1)
    copy = copy_of(died.original(), "dst_0", "rp-1", 1, AT)
    names = {name for name, _ in copy.headers}
    assert not {name for name in names if name.startswith("__connect") or "error" in name or "first-attempt" in name}
    mark = replay_mark(replay_mark_key(died, "dst_0"), ReplayMark("rp-1", AT, 1))
    assert mark.key == "pushrail.events/1/7 dst_0"
    assert read_replay_mark(mark.value) == ReplayMark("rp-1", AT, 1)


@pytest.mark.parametrize(
    "value", [b"", b"null", b"[1]", b"{}", b"\xff", b'{"replay":1,"at":2,"count":3}', b"[" * 10_000]
)
def test_a_foreign_mark_is_ignored(value: bytes) -> None:
    assert read_replay_mark(value) is None
    assert read_progress(value) is None


@pytest.mark.parametrize("offsets", [{"a": 1}, {"1": None}, {"1": "x"}, {"1": float("inf")}, {"1" * 5_000: 1}])
def test_progress_with_bad_offsets_is_none(offsets: dict[str, object]) -> None:
    value = {"filter": {"since_ms": 1, "until_ms": 2}, "offsets": offsets, "topicId": None}
    assert read_progress(json.dumps(value).encode()) is None


@pytest.mark.parametrize(
    "changes", [{"since_ms": 10**30}, {"until_ms": -(10**30)}, {"delivered_since_ms": "x"}, {"customer": [1]}]
)
def test_progress_with_a_bad_filter_is_none(changes: dict[str, object]) -> None:
    value = {"filter": {"since_ms": 1, "until_ms": 2} | changes, "offsets": {"1": 1}, "topicId": None}
    assert read_progress(json.dumps(value).encode()) is None


def test_marks_tell_recreated_topics_apart() -> None:
    died = letter(0)
    keys = {
        replay_mark_key(replace(died, origin=died.origin._replace(topic_id=topic_id)), "dst_0")
        for topic_id in (None, "the old topic", "the new topic")
    }
    assert len(keys) == 3


def test_past_events_follow_todays_filters() -> None:
    everything = EventFilter(since_ms=AT, until_ms=AT + 1)
    only_invoices = destination(0, id="dst_0b", event_types=("invoice.*",))
    off = destination(0, id="dst_0c", enabled=False)
    wanting = DestinationIndex((d.id, d) for d in (destination(0), only_invoices, off))
    choosing = EventSelection(everything, wanting, "acme")
    assert list(choosing.take(event_record(0))) == ["dst_0"]
    assert list(choosing.take(event_record(5))) == []
    assert list(choosing.take(event_record(0)._replace(value=b"{"))) == []
    assert list(choosing.take(event_record(0)._replace(timestamp_ms=AT + 1))) == []
    assert list(choosing.take(event_record(0)._replace(value=b"{", timestamp_ms=AT + 1))) == []
    assert choosing.left_out == {
        "filtered by its destination": 1,
        "its destination is disabled": 1,
        "its customer has no destination": 1,
        "cannot be decoded": 1,
    }
    to_one = EventSelection(replace(everything, destination="dst_0b"), wanting, "acme")
    assert list(to_one.take(event_record(0, eventType="invoice.paid"))) == ["dst_0b"]
    for narrowed in (replace(everything, customer="acct_1"), replace(everything, event_type="x")):
        assert list(EventSelection(narrowed, wanting, "acme").take(event_record(0))) == []


@pytest.mark.parametrize(
    ("narrowed", "left_out"),
    [
        ({"customer": "acct_0"}, {"cannot be decoded": 1}),
        ({"customer": "acct_5"}, {"its customer has no destination": 1}),
        ({"destination": "dst_0"}, {"cannot be decoded": 1}),
        ({"event_type": "order.completed"}, {"cannot be decoded": 2, "its customer has no destination": 1}),
        ({}, {"cannot be decoded": 3, "its customer has no destination": 1}),
    ],
)
def test_only_events_that_the_filter_names_are_left_out(narrowed: dict[str, Any], left_out: dict[str, int]) -> None:
    wanted = EventFilter(since_ms=AT, until_ms=AT + 1, **narrowed)
    choosing = EventSelection(wanted, DestinationIndex([("d", destination(0))]), "acme")
    broken = [event_record(number, occurredAt="yesterday") for number in (0, 1)]
    for record in (*broken, event_record(0)._replace(value=b"{"), event_record(5)):
        assert list(choosing.take(record)) == []
    assert choosing.left_out == left_out


def test_a_full_replay_completes_at_the_end() -> None:
    choosing = EventSelection(EventFilter(since_ms=0, until_ms=1), DestinationIndex(), "acme")
    choosing.finish()
    assert not choosing.is_complete
    assert choosing.left_out == {}


@given(st.dictionaries(st.integers(0, 50), st.integers(0, 2**40)), st.none() | st.text(), st.none() | st.text())
def test_progress_reads_back_as_written(offsets: dict[int, int], customer: str | None, topic_id: str | None) -> None:
    progress = ReplayProgress(EventFilter(since_ms=1, until_ms=2, customer=customer), offsets, topic_id)
    assert read_progress(progress_mark("rp-1", progress).value) == progress


def test_the_samples_are_events() -> None:
    assert isinstance(decode(event_record(0).value, (), "acme"), Event)


@given(st.dictionaries(st.integers(0, 99), st.tuples(st.integers(0, 2**63), st.integers(0, 2**63))))
def test_spans_are_read_back(spans: dict[int, tuple[int, int]]) -> None:
    assert read_spans(spans_text(spans)) == spans


def test_a_paused_destination_gets_no_replay() -> None:
    paused = DestinationIndex([("d", destination(0, paused=True))])
    selection = EventSelection(EventFilter(since_ms=0, until_ms=ANY_TIME[1]), paused, "acme")
    assert list(selection.take(event_record(0))) == []
    assert selection.left_out == {"its destination is paused": 1}
