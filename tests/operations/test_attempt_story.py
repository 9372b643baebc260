"""The story of an event says how each of its deliveries stands, and what comes next."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pushrail_stream.core.headers import DeliveryHeaders, encode_headers
from pushrail_stream.core.record import Record
from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.operations.attempt_story import Next, StoryTeller, as_json
from pushrail_stream.operations.attempts import read_attempt
from pushrail_stream.operations.dead_letters import DeadLetterRecord, read_dead_letter
from pushrail_stream.operations.replay_selection import ReplayMark, replay_mark
from pushrail_stream.operations.replayed import Replays
from tests.support.attempt_records import said
from tests.support.dead_letters import AT, event_record, letter

ORIGIN = {"topic": "pushrail.events", "partition": 1, "offset": 7}
LATER = AT + 60_000
DEAD = {"status": "dead_lettered", "reason": "blocked"}
RETRYING = {"status": "retrying", "attempt": 3, "nextAttemptAt": format_rfc3339(AT + 120_000)}
REPLAY = "pushrail-stream replay dlq --origin pushrail.events/1/7"


def copy(failed_at_ms: int = AT + 1, **changes: Any) -> DeadLetterRecord:
    """A copy on a retry topic, of a delivery after four attempts; due two minutes later."""
    own = event_record(0)
    usual: dict[str, Any] = {
        "origin": own.origin, "attempts": 4, "reason": "retryable", "failed_at_ms": failed_at_ms,
        "destination": "dst_0", "not_before_ms": failed_at_ms + 120_000,
    }  # fmt: skip
    headers = encode_headers(DeliveryHeaders(**usual | changes), own.headers)
    return read_dead_letter(Record("pushrail.retry.2m", 3, 5, own.key, own.value, headers, AT), "acme")


def told(
    *attempts: dict[str, Any],
    copies: tuple[DeadLetterRecord, ...] = (),
    letters: tuple[DeadLetterRecord, ...] = (),
    mark: ReplayMark | None = None,
    now_ms: int = LATER,
) -> Next:
    """The state of the only delivery after these."""
    marks = dict([replay_mark("pushrail.events/1/7 dst_0", mark)] if mark else [])
    teller = StoryTeller(Replays(marks), now_ms)
    for number, changes in enumerate(attempts):
        usual = said(0, origin=ORIGIN, destinationId="dst_0", at=format_rfc3339(AT + number))
        attempt = read_attempt(json.dumps(usual | changes).encode())
        assert attempt is not None
        teller.add_attempt(attempt)
    for one in copies:
        teller.add_waiting(one)
    for one in letters:
        teller.add_letter(one)
    [story] = teller.stories.values()
    [part] = story.parts.values()
    assert [len(one["attempts"]) for one in next(iter(as_json(teller)))["destinations"]] == [len(attempts)]
    return teller.next_of(part)


@pytest.mark.parametrize(("status", "state"), [("delivered", "delivered"), ("skipped", "skipped")])
def test_a_settled_delivery_has_nothing_to_come(status: str, state: Any) -> None:
    assert told(RETRYING, {"status": status}) == Next(state)


def test_a_delivery_waits_for_its_next_attempt() -> None:
    at = copy().record.origin
    assert told(RETRYING) == Next("waiting", None, AT + 120_000, 4)
    assert told(RETRYING, now_ms=AT + 120_000).state == "due"
    assert told(RETRYING, copies=(copy(),)) == Next("waiting", at, AT + 120_001, 5)
    assert told(RETRYING, copies=(copy(),), now_ms=AT + 200_000) == Next("due", at, AT + 120_001, 5)
    assert told(copies=(copy(),)) == Next("waiting", at, AT + 120_001, 5), "held before its first attempt"
    assert told(RETRYING, copies=(copy(AT - 5),)).at is None, "the attempt followed the copy"


def test_a_dead_letter_is_shown_with_its_remedy() -> None:
    died = letter(0, position=77)
    at = died.record.origin
    assert told(DEAD, letters=(died,)) == Next("dead_lettered", at, command=f"{REPLAY} --destination dst_0")
    rejected = letter(0, position=77, reason="rejected")
    assert told(DEAD, letters=(rejected,)).command == f"{REPLAY} --destination dst_0 --reason rejected"
    malformed = letter(0, position=77, reason="undecodable", destination_id=None)
    assert told(DEAD | {"destinationId": None}, letters=(malformed,)).command == f"pushrail-stream dlq show {at}"
    unrouted = letter(0, reason="rejected", code="NoDestination", destination_id=None)
    assert told(DEAD | {"destinationId": None}, letters=(unrouted,)).command == REPLAY
    assert told(DEAD) == Next("dead_lettered"), "the DLQ no longer keeps it"
    older = letter(0, position=3, failed_at_ms=AT - 1)
    assert told(letters=(died, older)).at == at, "the last one to fail counts, whatever the order"


def test_a_replay_belongs_to_the_story() -> None:
    died, mark = letter(0), ReplayMark("rp-1", AT + 5, 1)
    waits = copy(AT + 5, attempts=0, replay="rp-1", replay_count=1)
    assert told(DEAD, letters=(died,), mark=mark) == Next("replayed", died.record.origin, AT + 5, replay="rp-1")
    found = told(DEAD, letters=(died,), mark=mark, copies=(waits,))
    assert found == Next("waiting", waits.record.origin, AT + 120_005, 1, "rp-1")
    again = RETRYING | {"trigger": "replay", "replayId": "rp-1"}
    assert told(DEAD, again, letters=(died,), mark=mark) == Next("waiting", None, AT + 120_000, 4, "rp-1")
    assert told(DEAD, {"status": "delivered", "replayId": "rp-1"}, letters=(died,), mark=mark) == Next("delivered")
