"""Each copy on a retry topic or the DLQ is the event's record, byte for byte, with true headers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pushrail_stream.core.event import Undecodable
from pushrail_stream.core.headers import producer_headers
from pushrail_stream.core.record import NOT_UTF8
from pushrail_stream.core.skips import CODE as STEPPED_OVER
from tests.simulation.oracle.deliveries import Arrival, CopySeen, Deliveries, EventSeen
from tests.simulation.oracle.evidence import Violation, position_of

ASSERTION: Final = "a copy is the event's record"
_OF_RETRIES: Final = frozenset({"retryable", "throttled", "held"})


def find_untrue_copies(story: Deliveries) -> Iterator[Violation]:
    """A violation for each copy that differs from its event."""
    ours = {call.host for call in story.evidence.calls} | {end.host for end in story.evidence.worker_ends}
    for written, problem in story.alien:
        if written.host in ours:
            yield Violation(ASSERTION, f"the record at {position_of(written.origin)}: {problem}", written.at)
    for copy in story.copies:
        if copy.written.host in ours and (why := _difference(story, copy)):
            sentence = f"the copy at {position_of(copy.written.origin)} of {position_of(copy.headers.origin)}: {why}"
            yield Violation(ASSERTION, sentence, copy.written.at)


def find_corrupt_arrivals(story: Deliveries) -> Iterator[Violation]:
    """A violation for each entry that is no event, or is not of the customer of its bus."""
    for (value, _), arrivals in story.arrivals.items():
        twins, first = story.by_value.get(value), arrivals[0]
        if not twins:
            yield _wrong(f"took {value[:80]!r}, which is the value of no event", first.call.target, first.at)
            continue
        for arrival in arrivals:
            if why := _mistake(story, arrival, twins):
                yield _wrong(why, arrival.call.target, arrival.at)
    for call, entry in story.strays:
        yield _wrong(f"took {entry.detail[:80]!r}, and no document names it", call.target, call.at)


def _mistake(story: Deliveries, arrival: Arrival, twins: list[EventSeen]) -> str:
    event = twins[0].event
    if isinstance(event, Undecodable):
        return "took a record that is no canonical event"
    possible = story.documents.possible((event.vendor, event.customer_external_id), 0.0, arrival.at)
    if arrival.group not in {story.documents.group(version.destination) for version in possible}:
        return f"took an event of {event.customer_external_id}"
    if arrival.entry.resources[:2] != (event.customer_external_id, event.idempotency_key):
        return f"took an entry with the resources {arrival.entry.resources}"
    return "" if any(twin.written.at <= arrival.at for twin in twins) else "took an event before it was written"


def _difference(story: Deliveries, copy: CopySeen) -> str:
    record, headers = copy.written.record, copy.headers
    seen = story.event_of_copy(copy)
    if headers.error_code == STEPPED_OVER and copy.is_dead:
        return ""  # it stands for records that cannot be read
    if seen is None:
        return "there is no such event"
    original = seen.written.record
    if record.value != original.value or record.key != original.key:
        return "key or value differ"
    if all(name != NOT_UTF8 for name, _ in original.headers) and producer_headers(record.headers) != original.headers:
        return "the producer's headers differ"
    if not copy.is_dead and headers.reason not in _OF_RETRIES:
        return f"a retry copy has the reason {headers.reason}"
    if copy.is_dead and headers.reason in _OF_RETRIES:
        return f"a dead letter has the reason {headers.reason}"
    return ""


def _wrong(what: str, where: str, at: float) -> Violation:
    return Violation("a bus gets its customer's events, byte for byte", f"{where} {what} at {at:.3f}", at)
