"""Each copy on a retry topic or the DLQ is the event's record, byte for byte, with true headers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pushrail_stream.core.headers import producer_headers
from pushrail_stream.core.record import NOT_UTF8
from pushrail_stream.core.skips import CODE as STEPPED_OVER
from tests.simulation.oracle.deliveries import Arrival, CopySeen, Deliveries, EventSeen
from tests.simulation.oracle.documents import STALE_SECS, Version
from tests.simulation.oracle.evidence import Violation, position_of

ASSERTION: Final = "a copy is the event's record"
_OF_RETRIES: Final = frozenset({"retryable", "throttled", "held"})


def find_untrue_copies(story: Deliveries) -> Iterator[Violation]:
    """A violation for each copy that differs from its event."""
    for written, problem in story.alien:
        if story.is_workers(written):
            yield Violation(ASSERTION, f"the record at {position_of(written.origin)}: {problem}", written.at)
    for copy in story.copies:
        if story.is_workers(copy.written) and (why := _difference(story, copy)):
            sentence = f"the copy at {position_of(copy.written.origin)} of {position_of(copy.headers.origin)}: {why}"
            yield Violation(ASSERTION, sentence, copy.written.at)


def find_unmarked_replays(story: Deliveries) -> Iterator[Violation]:
    """A violation for each replayed dead letter without a mark, and for each replay that begins with attempts."""
    topic = story.evidence.settings.topics.replays
    noted = story.evidence.on(topic)
    marks = b"\n".join(part or b"" for one in noted for part in (one.record.key, one.record.value))
    for copy in story.copies:
        name = copy.headers.replay
        if name is None or copy.is_dead or story.is_workers(copy.written):
            continue
        where = f"the replayed copy at {position_of(copy.written.origin)}"
        if name.encode() not in marks and copy.written.is_readable and copy.headers.replay_count is not None:
            yield Violation(ASSERTION, f"{where} has no mark of the replay {name}", copy.written.at)
        if copy.headers.attempts:
            yield Violation(ASSERTION, f"{where} begins with {copy.headers.attempts} attempts", copy.written.at)
    for run in story.evidence.replays:
        written = [
            one for one in story.copies if one.headers.replay == run.replay and not story.is_workers(one.written)
        ]
        if len(written) != run.chosen:
            sentence = (
                f"the replay {run.replay} at {run.at:.3f} reports {run.chosen} deliveries, and wrote {len(written)}"
            )
            yield Violation(ASSERTION, sentence, run.at)


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
    event = next((one for twin in twins if (one := story.sent_event(twin)) is not None), None)
    if event is None:
        return "took a record that is no canonical event"
    owner = event.vendor, event.customer_external_id
    versions = [one for one in story.documents.possible(owner, 0.0, arrival.at) if one.bus == arrival.call.target]
    if not versions:
        return f"took an event of {event.customer_external_id}"
    if not any(version.takes(event) for version in _in_force(story, arrival, owner)):
        return f"took an event of the type {event.event_type}, which no document asks for"
    form = "cloudevents" if arrival.entry.is_cloud_event else "canonical"
    if not any(version.detail_format == form for version in versions):
        return f"took an event in the form {form}"
    if arrival.entry.detail and arrival.entry.resources[:2] != (event.customer_external_id, event.idempotency_key):
        return f"took an entry with the resources {arrival.entry.resources}"
    if not any(twin.written.is_readable for twin in twins):
        return "took an event of an aborted transaction"
    return "" if any(twin.written.at <= arrival.at for twin in twins) else "took an event before it was written"


def _in_force(story: Deliveries, arrival: Arrival, owner: tuple[str, str]) -> list[Version]:
    """The versions by which a worker may have made a delivery; a retry, also in memory, keeps to an earlier filter."""
    value = arrival.entry.detail
    copied = any(
        not copy.is_dead and copy.written.at < arrival.at
        for twin in story.by_value[value]
        for destination in story.documents.members(arrival.group)
        for copy in story.copies_of(twin, destination)
    )
    tried = any(
        call.at < arrival.at
        for twin in story.by_value[value]
        for destination in story.documents.members(arrival.group)
        for call in story.calls_with(twin, destination)
    )
    since = 0.0 if copied or tried else arrival.at - story.stale_secs(arrival.at) + STALE_SECS
    return [one for one in story.documents.possible(owner, since, arrival.at) if one.bus == arrival.call.target]


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
