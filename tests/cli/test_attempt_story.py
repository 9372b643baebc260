"""Stories of events, as people read them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pushrail_stream.cli.attempt_story import print_stories
from pushrail_stream.cli.output import short_time
from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.operations.attempt_story import StoryTeller
from pushrail_stream.operations.attempts import read_attempt
from pushrail_stream.operations.replay_selection import ReplayMark, replay_mark
from pushrail_stream.operations.replayed import Replays
from tests.support.attempt_records import said
from tests.support.dead_letters import AT, letter

ORIGIN = {"topic": "pushrail.events", "partition": 1, "offset": 7}
REPLAY = "pushrail-stream replay dlq --origin pushrail.events/1/7"
ATTEMPTS: list[dict[str, Any]] = [
    {"destinationId": "dst_0", "status": "retrying", "reason": "throttled", "code": "Throttling", "message": "slow",
     "nextAttemptAt": format_rfc3339(AT + 100)},
    {"destinationId": "dst_0", "attempt": 2, "requestId": "r-2"},
    {"destinationId": "dst_1", "status": "retrying", "attempt": 4, "reason": "retryable", "code": "503",
     "nextAttemptAt": format_rfc3339(AT + 80_000)},
    {"destinationId": "dst_2", "status": "dead_lettered", "reason": "blocked", "code": "AccessDenied", "attempt": 1,
     "trigger": "replay", "replayId": "rp-1"},
    {"destinationId": "dst_3", "status": "skipped", "reason": "disabled", "attempt": 0},
    {"destinationId": "dst_4", "status": "dead_lettered", "reason": "blocked", "code": "AccessDenied"},
    {"destinationId": "dst_5", "status": "dead_lettered", "reason": "blocked", "code": "AccessDenied"},
]  # fmt: skip


def test_each_destination_has_its_part(capsys: pytest.CaptureFixture[str]) -> None:
    mark = replay_mark("pushrail.events/1/7 dst_4", ReplayMark("rp-2", AT, 1))
    teller = StoryTeller(Replays(dict([mark])), AT)
    for changes in ATTEMPTS:
        record = said(0, origin=ORIGIN, idempotencyKey="key\x1b", eventBridgeEventId=None, at=format_rfc3339(AT))
        attempt = read_attempt(json.dumps(record | changes).encode())
        assert attempt is not None
        teller.add_attempt(attempt)
    for number in (2, 4, 6):
        teller.add_letter(letter(0, position=number, destination_id=f"dst_{number}"))
    print_stories(teller)
    lines = capsys.readouterr().out.splitlines()
    at, due = format_rfc3339(AT), short_time(AT + 80_000)
    assert lines == [
        "key\\x1b  order.completed of acct_0, pushrail.events/1/7",
        "  dst_0",
        f"    {at}  attempt 1: retrying, throttled Throttling: slow",
        f"    {at}  attempt 2: delivered, request id r-2",
        "  dst_1",
        f"    {at}  attempt 4: retrying, retryable 503",
        f"    next                      waits in a worker until {due} (in 1 min 20 s), then attempt 5",
        "  dst_2",
        f"    {at}  attempt 1 of replay rp-1: dead lettered, blocked AccessDenied",
        f"    next                      dead letter at pushrail.dlq/2/2; to replay it: {REPLAY} --destination dst_2",
        "  dst_3",
        f"    {at}  no call: skipped, disabled",
        "  dst_4",
        f"    {at}  attempt 1: dead lettered, blocked AccessDenied",
        f"    next                      dead letter at pushrail.dlq/2/4, replayed by rp-2 at {short_time(AT)}",
        "  dst_5",
        f"    {at}  attempt 1: dead lettered, blocked AccessDenied",
        "    next                      its dead letter is no longer there",
        "  dst_6",
        f"    {at}  blocked AccessDenied, without a trace of an attempt",
        f"    next                      dead letter at pushrail.dlq/2/6; to replay it: {REPLAY} --destination dst_6",
    ]


@pytest.mark.parametrize(
    ("wait_ms", "shown"), [(4_001, "in 5 s"), (80_000, "in 1 min 20 s"), (4_800_000, "in 1 h 20 min")]
)
def test_a_wait_is_shown_in_the_largest_units(capsys: pytest.CaptureFixture[str], wait_ms: int, shown: str) -> None:
    changes = {"status": "retrying", "nextAttemptAt": format_rfc3339(AT + wait_ms), "at": format_rfc3339(AT)}
    for now_ms, text in ((AT, shown), (AT + wait_ms, "attempt 2 is due since")):
        teller = StoryTeller(Replays({}), now_ms)
        attempt = read_attempt(json.dumps(said(0) | changes).encode())
        assert attempt is not None
        teller.add_attempt(attempt)
        print_stories(teller)
        assert text in capsys.readouterr().out
