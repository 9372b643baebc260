"""`check` reports what the oracle knows: it misses nothing that was delivered, and finds nothing that was not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.simulation.oracle.deliveries import Arrival, Deliveries, EventSeen, Said
from tests.simulation.oracle.evidence import CheckedDelivery, CheckRun, Violation, position_of

ASSERTION: Final = "check reports what happened"


def find_wrong_reports(story: Deliveries) -> Iterator[Violation]:
    """A violation for each line of a check that the world contradicts."""
    for run in story.evidence.checks:
        for one in run.deliveries:
            seen = story.event_of(one.origin, run.ended_at)
            if (
                seen is not None
                and not story.is_ambiguous(one.origin)
                and (why := _contradiction(story, run, one, seen))
            ):
                sentence = (
                    f"the check at {run.at:.3f} reports {position_of(one.origin)} to {one.destination} as "
                    f"{one.status}: {why}"
                )
                yield Violation(ASSERTION, sentence, run.at)
        yield from _find_left_out(story, run)


def _contradiction(story: Deliveries, run: CheckRun, one: CheckedDelivery, seen: EventSeen) -> str:
    said = [said for said in story.said_about(seen, one.destination) if said.written.at <= run.ended_at]
    written = [
        said for said in said if said.written.at < run.at and said.written.gone_at is None and _names_topic(said, seen)
    ]
    letters = [
        copy for copy in story.copies_of(seen, one.destination) if copy.is_dead and copy.written.at < run.ended_at
    ]
    match one.status:
        case "delivered":
            value = seen.written.record.value or b""
            arrived = one.destination is not None and story.arrivals_of(value, one.destination)
            return "" if arrived else "it never arrived"
        case "dead_lettered":
            return "" if letters or any(one.get("status") == "dead_lettered" for one in said) else "there is no letter"
        case "skipped":
            return "" if any(one.get("status") == "skipped" for one in said) else "there is no record of a skip"
        case "missing" | "too_new":
            ended = {"delivered", "dead_lettered", "skipped"} & {str(one.get("status")) for one in written}
            if ended:
                return f"the attempts log has it as {', '.join(sorted(ended))}"
            if any(copy.written.at < run.at and copy.written.gone_at is None for copy in letters):
                return "there is a dead letter"
            return "" if one.status == "too_new" else _why_not_missing(story, run, one, seen)
        case _:
            return ""


def _names_topic(said: Said, seen: EventSeen) -> bool:
    """Whether a record names the event's own topic. A worker may not know yet that the topic was created again."""
    return said.origin is not None and said.origin.topic_id in {None, seen.written.record.topic_id}


def _why_not_missing(story: Deliveries, run: CheckRun, one: CheckedDelivery, seen: EventSeen) -> str:
    """The reason for which a delivery without an end in the attempts log is not missing. Empty when it may be."""
    if one.destination is not None:
        value = seen.written.record.value or b""
        for arrival in story.arrivals_of(value, one.destination):
            is_recorded = arrival.call.is_clear and not story.may_lack_attempts(arrival.at, arrival.call.host)
            if arrival.at < run.at - 1.0 and is_recorded and not _is_of_twin(story, one.destination, arrival, seen):
                return f"it arrived at {arrival.at:.3f}"
    if story.covered_at(seen.written) > run.ended_at:
        return "no commit covers it yet"
    for copy in story.copies_of(seen, one.destination):
        waits = not copy.is_dead and copy.written.gone_at is None and copy.written.at < run.at
        if waits and story.covered_at(copy.written) > run.ended_at:
            return "its copy waits on a retry topic"
    return ""


def _is_of_twin(story: Deliveries, destination: str, arrival: Arrival, seen: EventSeen) -> bool:
    """Whether the attempts log has this arrival for another record with the same bytes."""
    twins = (twin for twin in story.by_value[seen.written.record.value or b""] if twin is not seen)
    index = next(index for index, entry in enumerate(arrival.call.entries) if entry is arrival.entry)
    return any(
        said.get("requestId") == arrival.call.request_id and said.get("batchIndex") == index
        for twin in twins
        for said in story.said_about(twin, destination)
    )


def _find_left_out(story: Deliveries, run: CheckRun) -> Iterator[Violation]:
    """Events that a check of everything does not mention, and events that it makes up."""
    named = {one.origin[:3] for one in run.deliveries}
    for seen in story.events:
        origin = seen.written.origin
        is_there = seen.written.is_readable and seen.written.gone_at is None and seen.written.visible_at < run.at
        if is_there and origin[:3] not in named:
            yield Violation(ASSERTION, f"the check at {run.at:.3f} leaves {position_of(origin)} out", run.at)
    most = sum(seen.written.at <= run.ended_at for seen in story.events)
    if run.events is not None and run.events > most:
        yield Violation(
            ASSERTION, f"the check at {run.at:.3f} counts {run.events} events, and there are {most}", run.at
        )
