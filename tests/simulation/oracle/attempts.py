"""Each attempts record is true: the call that it tells of was made, and had that result for that entry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pushrail_stream.core.event import Undecodable
from pushrail_stream.core.skips import CODE as STEPPED_OVER
from tests.simulation.oracle.deliveries import Deliveries, EventSeen, Said
from tests.simulation.oracle.evidence import Call, Entry, Violation, Written, position_of

ASSERTION: Final = "an attempts record is true"
_EVENT_FIELDS: Final = {
    "vendor": "vendor",
    "customerExternalId": "customer_external_id",
    "eventType": "event_type",
    "idempotencyKey": "idempotency_key",
    "correlationId": "correlation_id",
}


def find_untrue_attempts(story: Deliveries) -> Iterator[Violation]:
    """A violation for each attempts record that the world contradicts, and for each call that has too few records."""
    calls = {call.request_id: call for call in story.evidence.calls if call.request_id and call.api == "PutEvents"}
    told: dict[str, set[int]] = {}
    ids: dict[str, Written] = {}
    for said in story.attempts:
        why = _contradiction(story, calls, said)
        before, ids[said.get("attemptId")] = ids.get(said.get("attemptId")), said.written
        if not why and before is not None and not _takes_the_place(said.written, before):
            why = "another record has its attemptId"
        if why:
            at = position_of(said.written.origin)
            yield Violation(
                ASSERTION,
                f"the record at {at}, of {said.origin} to {said.get('destinationId')}: {why}",
                said.written.at,
            )
        if said.get("requestId"):
            told.setdefault(said.fields["requestId"], set()).add(int(said.get("batchIndex") or 0))
    for request_id, places in told.items():
        size = len(calls[request_id].entries) if request_id in calls else 0
        if size and len(places) < size and not _may_be_cut(story, calls[request_id]):
            missing = sorted(set(range(size)) - places)
            yield Violation(
                ASSERTION, f"the call {request_id} has no record of its entries {missing}", calls[request_id].at
            )


def _takes_the_place(one: Written, before: Written) -> bool:
    """Whether a client wrote a record again that Kafka had lost with its topic or its log's end, or never acknowledged.

    After a batch that it gave up, a client has a new epoch. Kafka then writes a batch again whose answer was lost.
    """
    if before.record.value != one.record.value:
        return False
    if before.acknowledged_at is None and before.host == one.host:
        return True
    return before.gone_at is not None and before.gone_at <= one.at


def _contradiction(story: Deliveries, calls: dict[str, Call], said: Said) -> str:
    if said.origin is None:
        return "it names no origin"
    seen = story.event_of_said(said)
    if seen is None:
        return "there is no such event"
    if why := _wrong_event(story, seen, said.fields):
        return why
    match said.get("status"):
        case "skipped":
            return _wrong_skip(story, seen, said)
        case "dead_lettered" if not said.get("attempt"):
            return "" if _letters(story, seen, said) or _is_late(story, said) else "there is no dead letter"
        case "delivered" | "retrying" | "dead_lettered":
            return _wrong_call(story, calls, seen, said)
        case other:
            return f"its status is {other}"


def _wrong_event(story: Deliveries, seen: EventSeen, fields: dict[str, Any]) -> str:
    event = story.sent_event(seen)
    if isinstance(seen.event, Undecodable) and fields.get("status") == "dead_lettered":
        return ""  # it names what could be read of the record
    if event is None:
        return "the record is no canonical event"
    if fields.get("code") == STEPPED_OVER:
        return ""
    for name, attribute in _EVENT_FIELDS.items():
        if fields.get(name) != (expected := getattr(event, attribute)):
            return f"{name} is {fields.get(name)!r}, and the event's is {expected!r}"
    return ""


def _wrong_skip(story: Deliveries, seen: EventSeen, said: Said) -> str:
    event = story.sent_event(seen)
    if event is None:
        return "the record is no canonical event"
    owner, reason = (event.vendor, event.customer_external_id), said.get("reason")
    since, until = seen.written.at, said.written.at
    reader = story.reader(said.written.host, since, until)
    certain = story.documents.certain(owner, since, until, reader)
    if reason == "no_destination":
        return f"{owner[1]} had {', '.join(sorted(certain))}" if certain else ""
    destination = str(said.get("destinationId"))
    versions = certain.get(destination)
    if versions is None:
        possible = {one.destination for one in story.documents.possible(owner, since, until, reader)}
        if said.get("trigger") == "live" and destination not in possible:
            return f"{owner[1]} had no such destination"
        return "" if reason in {"deleted", "disabled", "paused", "filtered"} else f"its reason is {reason}"
    wrong = {
        "deleted": True,
        "disabled": all(version.skips_as != "disabled" for version in versions),
        "paused": all(version.skips_as != "paused" for version in versions),
        "filtered": all(version.wants(event) for version in versions),
    }
    return f"its destination was not {reason}" if wrong.get(str(reason), True) else ""


def _wrong_call(story: Deliveries, calls: dict[str, Call], seen: EventSeen, said: Said) -> str:
    call = calls.get(str(said.get("requestId")))
    found = story.garbled_calls_of.get(said.get("eventBridgeEventId"), []) if call is None else [call]
    if not found:
        # Without an id, no usable answer came: nothing can have been delivered.
        return "it tells of a delivery that no call made" if said.get("status") == "delivered" else ""
    problems = [_wrong_place(story, one, seen, said) for one in found]
    return "" if "" in problems else problems[-1]


def _wrong_place(story: Deliveries, call: Call, seen: EventSeen, said: Said) -> str:
    request_id, index = said.get("requestId"), said.get("batchIndex")
    if not isinstance(index, int) or not 0 <= index < len(call.entries):
        return f"the call {request_id} has no entry {index}"
    if said.get("batchSize") != len(call.entries):
        return f"the call {request_id} has {len(call.entries)} entries, not {said.get('batchSize')}"
    entry = call.entries[index]
    if not story.is_entry_of(entry, seen):
        return f"the entry {index} of the call {request_id} is another event"
    return _wrong_result(call, entry, said) or _wrong_number(story, seen, said)


def _wrong_result(call: Call, entry: Entry, said: Said) -> str:
    is_delivered = said.get("status") == "delivered"
    if call.target != said.get("busArn"):
        return f"the call {call.request_id} went to {call.target}"
    if is_delivered and entry.event_id is None:
        return f"the bus did not take it in the call {call.request_id}"
    if is_delivered and said.get("eventBridgeEventId") != entry.event_id:
        return f"the bus gave the id {entry.event_id}"
    if is_delivered and call.answered_at is None:
        return "its answer never came"
    if not is_delivered and entry.is_taken_despite(said.get("code")) and call.is_clear:
        return f"the bus took it in the call {call.request_id}"
    return ""


def _wrong_number(story: Deliveries, seen: EventSeen, said: Said) -> str:
    """Numbers of attempts count from 1 without a gap; a replay, and a repeat after a loss, begin again."""
    number, destination = said.get("attempt"), said.get("destinationId")
    if not isinstance(number, int) or number < 1:
        return f"its number is {number}"
    if story.may_lack_attempts(said.written.at, said.written.host):
        return ""
    before = {
        one.get("attempt") for one in story.said_about(seen, destination) if one.written.host == said.written.host
    }
    copied = story.attempts_copied(seen, destination)
    if number > 1 and number - 1 not in before | copied:
        return f"its number is {number}, and nothing has {number - 1}"
    if said.get("trigger") == "retry" and number - 1 not in before | copied:
        return f"its number is {number}, and no copy has {number - 1} attempts"
    return ""


def _letters(story: Deliveries, seen: EventSeen, said: Said) -> bool:
    return any(copy.is_dead for copy in story.copies_of(seen, said.get("destinationId")))


def _is_late(story: Deliveries, said: Said) -> bool:
    return said.written.at > story.evidence.ended_at - 1.0


def _may_be_cut(story: Deliveries, call: Call) -> bool:
    return story.may_lack_attempts(call.at, call.host) or call.at > story.evidence.ended_at - 30.0


def find_unrecorded(story: Deliveries) -> Iterator[Violation]:
    """A violation for each dead letter of a worker without an attempts record."""
    for copy in story.copies:
        seen = story.event_of_copy(copy)
        if seen is None or not copy.is_dead or copy.headers.error_code == STEPPED_OVER:
            continue
        if not story.is_workers(copy.written) or story.may_lack_attempts(copy.written.at, copy.written.host):
            continue
        if copy.written.acknowledged_at is None or copy.written.at > story.evidence.ended_at - 30.0:
            continue
        records = story.said_about(seen, copy.headers.destination)
        if not any(one.get("status") == "dead_lettered" and one.written.host == copy.written.host for one in records):
            sentence = f"the dead letter at {position_of(copy.written.origin)} has no attempts record"
            yield Violation(ASSERTION, sentence, copy.written.at)
