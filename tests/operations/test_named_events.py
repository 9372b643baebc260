"""The delivery log chooses the events that are delivered again."""

from __future__ import annotations

from typing import Any

from pushrail_stream.operations.attempts import Attempt
from pushrail_stream.operations.named_events import DeliveredEvents, NamedEvents
from pushrail_stream.operations.replay_selection import (
    ANY_TIME,
    EventFilter,
    EventSelection,
)
from pushrail_stream.registry.directory import DestinationIndex
from tests.support.builders import destination
from tests.support.dead_letters import AT, event_record

EVENTS = "pushrail.events"


def delivered(*, destination_id: str = "dst_0", at_ms: int = AT, status: str = "delivered", **origin: Any) -> Attempt:
    said = {"destinationId": destination_id, "status": status, "origin": {"topic": EVENTS, "partition": 0} | origin}
    return Attempt(at_ms, b"", said)


def test_logged_deliveries_select_the_events() -> None:
    log = DeliveredEvents(EVENTS, "dst_0", AT, AT + 10)
    for attempt in (
        delivered(offset=0),
        delivered(offset=0, at_ms=AT + 9),
        delivered(offset=1, topicId="another"),
        delivered(offset=2, at_ms=AT - 1),
        delivered(offset=3, at_ms=AT + 10),
        delivered(offset=4, status="retrying"),
        delivered(offset=5, destination_id="dst_1"),
        delivered(offset=6, topic="another"),
        delivered(offset="x"),
        delivered(offset="9" * 5_000),
        delivered(offset=7, partition=1),
        delivered(offset=9, partition=1, topicId="same"),
        Attempt(AT, b"", {"destinationId": "dst_0", "status": "delivered"}),
    ):
        log.take(attempt)
    assert log.starts({}) == {0: 0, 1: 7}
    assert log.starts({1: 8}) == {0: 0, 1: 9}, "what a replay that is resumed has sent before is not sent again"
    directory = DestinationIndex((d.id, d) for d in (destination(0), destination(0, id="dst_0b")))
    anything = EventFilter(since_ms=ANY_TIME[0], until_ms=ANY_TIME[1], destination="dst_0")
    choosing = EventSelection(anything, directory, "acme", log)
    records = [event_record(0)._replace(offset=n, topic=EVENTS, partition=0, topic_id="same") for n in range(9)]
    assert [record.offset for record in records for _ in choosing.take(record)] == [0]
    assert not choosing.is_complete
    choosing.finish()
    assert choosing.left_out == {"no longer in the topic": 1}
    last = event_record(0)._replace(offset=9, topic=EVENTS, partition=1, topic_id="same", timestamp_ms=-1)
    assert list(choosing.take(last)) == ["dst_0"]
    assert choosing.is_complete
    choosing.finish()
    assert choosing.chosen == {"dst_0": 2}


def test_events_that_were_skipped_in_a_pause_are_named() -> None:
    named = NamedEvents(EVENTS, "dst_0")
    for number, fields in enumerate((
        {"status": "skipped", "reason": "paused"}, {"status": "skipped", "reason": "disabled"},
        {"status": "delivered"}, {"status": "skipped", "reason": "paused", "destinationId": "dst_1"},
        {"status": "skipped", "reason": "paused", "trigger": "retry"},
    )):  # fmt: skip
        origin = {"topic": EVENTS, "partition": 0, "offset": number}
        named.take(Attempt(AT, b"", {"destinationId": "dst_0", "origin": origin} | fields))
    assert (len(named), named.starts({})) == (2, {0: 0})
    assert named.starts({0: 1}) == {0: 4}
