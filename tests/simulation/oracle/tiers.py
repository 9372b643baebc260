"""Copies climb the retry topics as stated, wait there, keep the beginning of their delivery, and expire in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pushrail_stream.core.outcome import SIGN_INS_QUEUED
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import PartitionRestarted, PartitionsAssigned
from pushrail_stream.core.text import parse_rfc3339
from pushrail_stream.eventbridge.error_codes import UNKNOWN_RESULT, is_our_fault
from tests.simulation.oracle.deliveries import CopySeen, Deliveries, EventSeen, Said
from tests.simulation.oracle.evidence import Violation, Written, position_of

ASSERTION: Final = "copies climb the retry topics as stated"
_EXPIRY_SECS: Final = 120.0
"""Time in seconds beyond the age and the wait on a retry topic, in which an old delivery has its last attempt."""
_ROUNDING_MS: Final = 2
"""Milliseconds by which an announced time may be later than the attempt: both are rounded."""
_RESTARTED_SECS: Final = 60.0
"""Longest time in seconds from a partition's restart until the attempts of its early records end: a hold and calls."""
_ANSWERED: Final = frozenset({"rejected", "blocked", "throttled"})
"""Reasons in attempts records that come from the bus. A call with another reason may have failed as a whole."""
_OK: Final = 200
"""The HTTP status of an answer with a result for each entry. With the code `UNKNOWN_RESULT`, it may have none."""
_EARLY_SECS: Final = 1.0
"""Time in seconds by which a wait may be shorter: copies carry whole milliseconds, and a call takes its way."""


def find_wrong_steps(story: Deliveries) -> Iterator[Violation]:
    """A violation for each retry copy that its history contradicts."""
    topics = story.evidence.retry_topics
    for seen in story.events:
        for destination in story.destinations_of(seen):
            copies = story.copies_of(seen, destination)
            for copy in copies:
                if story.is_workers(copy.written) and (why := _mistake(story, seen, copies, copy, topics)):
                    at = position_of(copy.written.origin)
                    sentence = f"the copy at {at}, of {position_of(seen.written.origin)} to {destination}: {why}"
                    yield Violation(ASSERTION, sentence, copy.written.at)


def find_early_retries(story: Deliveries) -> Iterator[Violation]:
    """A violation for each retry that begins before its copy's time, though no operator asked for it."""
    if story.evidence.retries_asked_for:
        return
    delays = story.evidence.settings.topics.retry
    for said in story.attempts:
        seen, number = story.event_of_said(said), said.get("attempt") or 0
        if seen is None or said.get("trigger") != "retry" or not number:
            continue
        copies = [
            copy
            for copy in story.copies_of(seen, said.get("destinationId"))
            if not copy.is_dead and copy.headers.attempts == number - 1 and copy.written.at <= said.written.at
        ]
        if any(_has_waited(copy, said, delays[copy.written.record.topic]) for copy in copies):
            continue
        hosts = {said.written.host, *(copy.written.host for copy in copies)}
        if _is_in_memory(story, seen, said) or any(map(story.had_wrong_clock, hosts)):
            continue
        if any(_may_be_lost(story, copy, said.written) for copy in copies) or _was_made_due(story, seen, said, copies):
            continue
        waited = [copy.written.at + delays[copy.written.record.topic] for copy in copies]
        if waited and said.written.at < min(waited) - _EARLY_SECS:
            sentence = (
                f"the attempt {number} of {position_of(seen.written.origin)} to {said.get('destinationId')} was over "
                f"at {said.written.at:.3f}, and its copy is due at {min(waited):.3f}"
            )
            yield Violation(ASSERTION, sentence, said.written.at)


def _may_be_lost(story: Deliveries, copy: CopySeen, later: Written) -> bool:
    """Whether Kafka had lost the copy, or a later record's worker had to assume so. It begins such copies at once."""
    written = copy.written
    if written.gone_at is not None and written.gone_at <= later.at:
        return True
    partition = Partition(written.record.topic, written.record.partition)
    return any(
        isinstance(signal, PartitionRestarted)
        and signal.partition == partition
        and host == later.host
        and written.at <= at <= later.at <= at + _RESTARTED_SECS
        for at, host, signal in story.evidence.signals
    )


def _has_waited(copy: CopySeen, said: Said, delay: float) -> bool:
    """Whether an attempt began late enough after the failure. Kafka may take the copy later, while that time passes."""
    begun_at_ms = parse_rfc3339(said.get("at") or "")
    return begun_at_ms is not None and begun_at_ms - copy.headers.failed_at_ms >= 1000 * (delay - _EARLY_SECS)


def _is_in_memory(story: Deliveries, seen: EventSeen, said: Said) -> bool:
    """Whether the worker had announced this attempt for its time, when the one before had failed.

    A copy with as many attempts may come from another delivery of the event, after its record was read again.
    """
    begun_at_ms = parse_rfc3339(said.get("at") or "")
    return begun_at_ms is not None and any(
        (announced_ms := parse_rfc3339(before.get("nextAttemptAt") or "")) is not None
        and announced_ms <= begun_at_ms + _ROUNDING_MS
        for before in story.said_about(seen, said.get("destinationId"))
        if before.written.host == said.written.host and before.get("attempt") == said.get("attempt") - 1
    )


def _was_made_due(story: Deliveries, seen: EventSeen, said: Said, copies: Sequence[CopySeen]) -> bool:
    """Whether its destination answered another call of the worker while this attempt waited in memory.

    A destination that was down, and answers, gets at once all that waits in memory. ``copies``: those that have as
    many attempts. An attempt before that the worker followed by such a copy waits on a retry topic.
    """
    destination, host = said.get("destinationId"), said.written.host
    begun_at_ms = parse_rfc3339(said.get("at") or "")
    if begun_at_ms is None:
        return False
    failed_ms = [
        _ended_at_ms(before)
        for before in story.said_about(seen, destination)
        if before.written.host == host
        and before.get("status") == "retrying"
        and before.get("attempt") == said.get("attempt") - 1
    ]
    copied_ms = max((copy.headers.failed_at_ms for copy in copies if copy.written.host == host), default=0)
    in_memory_ms = [at_ms for at_ms in failed_ms if at_ms > copied_ms + _ROUNDING_MS]
    return bool(in_memory_ms) and any(
        min(in_memory_ms) <= _ended_at_ms(one) + _ROUNDING_MS and _ended_at_ms(one) <= begun_at_ms + _ROUNDING_MS
        for one in story.attempts
        if one.get("destinationId") == destination
        and one.written.host == host
        and one.get("requestId") != said.get("requestId")
        and _tells_of_an_answer(one)
    )


def _tells_of_an_answer(said: Said) -> bool:
    """Whether the bus answered the call for each entry, be it with a refusal."""
    if said.get("status") == "delivered" or said.get("reason") in _ANSWERED:
        return True
    return bool(said.get("httpStatus") == _OK and said.get("code") != UNKNOWN_RESULT)


def _ended_at_ms(said: Said) -> float:
    """The time in milliseconds at which an attempt ended; 0 when its record does not tell."""
    return (parse_rfc3339(said.get("at") or "") or 0) + (said.get("durationMs") or 0)


def _mistake(
    story: Deliveries, seen: EventSeen, copies: Sequence[CopySeen], copy: CopySeen, topics: Sequence[str]
) -> str:
    headers = copy.headers
    if headers.attempts and headers.first_attempt_at_ms is None:
        return "it has attempts, and no first one"
    if copy.is_dead:
        return ""
    most_secs = story.evidence.settings.delivery.max_age_secs
    own_secs = story.documents.retry_bounds(copy.headers.destination, most_secs).max_age_secs
    has_expired = _has_expired(copy, own_secs) and not _was_taken_over(story, seen, copy, own_secs)
    if has_expired or _is_too_old(story, seen, copy):
        return f"its delivery began more than {own_secs:.0f} s before"
    if headers.reason != "retryable":
        return ""
    tier = topics.index(copy.written.record.topic)
    earlier = [one for one in copies if one.written.at < copy.written.at and not one.is_dead]
    if tier and not any(topics.index(one.written.record.topic) >= tier - 1 for one in earlier):
        return f"it is on {topics[tier]}, and was never on {topics[tier - 1]}"
    same = [one for one in earlier if _may_follow(story, copy, one)]
    climbed = [one for one in same if one.headers.reason == "retryable" and one.headers.attempts < headers.attempts]
    reached = max((topics.index(one.written.record.topic) for one in climbed), default=-1)
    if own_secs < most_secs:
        return ""  # near the end of its age it takes shorter delays
    if headers.first_attempt_at_ms is not None and tier < min(reached + 1, len(topics) - 1) and reached == 0:
        return f"it is on {topics[tier]} again"
    return ""


def _is_our_delay(copy: CopySeen) -> bool:
    code = copy.headers.error_code or ""
    return code == SIGN_INS_QUEUED or is_our_fault(code)


def _may_follow(story: Deliveries, copy: CopySeen, earlier: CopySeen) -> bool:
    """Whether a copy may come from an earlier one, which has waited for its time.

    Two workers may have an event at the same time, and begin its deliveries in the same millisecond. A copy whose wait
    an operator cut short may look so too, and is not judged.
    """
    if copy.headers.first_attempt_at_ms != earlier.headers.first_attempt_at_ms:
        return False
    delay_secs = story.evidence.settings.topics.retry[earlier.written.record.topic]
    return (
        copy.headers.failed_at_ms - earlier.headers.failed_at_ms >= 1000 * (delay_secs - _EARLY_SECS)
        or _may_be_lost(story, earlier, copy.written)
        or any(map(story.had_wrong_clock, (earlier.written.host, copy.written.host)))
    )


def _has_expired(copy: CopySeen, max_age_secs: float) -> bool:
    """Whether the delivery was too old by its worker's own clock, unless we delayed it."""
    headers = copy.headers
    if headers.first_attempt_at_ms is None or _is_our_delay(copy):
        return False
    age_ms = headers.failed_at_ms - headers.first_attempt_at_ms
    return age_ms >= 1000 * max_age_secs


def _was_taken_over(story: Deliveries, seen: EventSeen, copy: CopySeen, max_age_secs: float) -> bool:
    """Whether a worker that moved a cursor's delivery to a retry topic had the cursor for less than the greatest age.

    The time in which no worker had the cursor does not make a dead letter.
    """
    if copy.headers.reason != "held":
        return False
    partition = Partition(seen.written.record.topic, seen.written.record.partition)
    return any(
        host == copy.written.host
        and isinstance(signal, PartitionsAssigned)
        and any(given == partition for given, _ in signal.partitions)
        and copy.written.at - max_age_secs <= at <= copy.written.at
        for at, host, signal in story.evidence.signals
    )


def _is_too_old(story: Deliveries, seen: EventSeen, copy: CopySeen) -> bool:
    """Whether a delivery that the customer's side delays should have expired.

    Until a commit covers the event, its record may be read again, and its delivery begins again.
    """
    settings, destination = story.evidence.settings, copy.headers.destination or ""
    most = settings.delivery.max_age_secs + max(settings.topics.retry.values()) + _EXPIRY_SECS
    calls = story.calls_with(seen, destination)
    if not calls or copy.written.at - max(calls[0].at, story.covered_at(seen.written)) <= most:
        return False
    if story.had_own_fault or story.clocks_jumped:
        return False
    if copy.headers.replay is not None or any(one.fault == "ours" for one in calls if one.at <= copy.written.at):
        return False
    waiting = (one for one in story.copies_of(seen, destination) if one.written.at <= copy.written.at)
    if any(_is_our_delay(one) for one in waiting):
        return False  # a garbled answer may read as if we were refused before AWS
    moves = (one.at for one in story.evidence.disturbances if one.kind in {"operator", "log"})
    # After a move the record was read again, and its delivery began again.
    return not any(calls[0].at <= at <= copy.written.at for at in moves)
