"""Dead letters name the right party: none is a customer's while the cause was ours, nor the reverse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from pushrail_stream.core.event import VENDOR_SETTING, Event, Undecodable, decode
from pushrail_stream.core.headers import producer_headers
from pushrail_stream.core.outcome import SIGN_INS_QUEUED
from pushrail_stream.core.record import Partition
from pushrail_stream.core.retry import fault_of
from pushrail_stream.core.signals import PartitionsAssigned
from pushrail_stream.eventbridge.error_codes import BASE_CREDENTIALS_DENIED, is_our_fault
from pushrail_stream.settings.eventbridge import MAX_REQUEST_BYTES
from tests.simulation.oracle.deliveries import CopySeen, Deliveries, EventSeen
from tests.simulation.oracle.documents import Reader
from tests.simulation.oracle.evidence import Call, Violation, position_of

ASSERTION: Final = "a dead letter names the party at fault"
_IN_FLIGHT_SECS: Final = 10.0
"""Time in seconds in which calls that were in flight together may end, and their copies be written."""
_CLOCK_SECS: Final = 1.0
"""Time in seconds by which a worker's clock may be ahead: it keeps a small step that the machine's clock made."""
_ROUNDING_SECS: Final = 0.01
"""Time in seconds by which a worker's time may seem shorter: its clock and its letters have whole milliseconds."""
_FORMER_REQUEST_BYTES: Final = 262_144
"""Size of a call that every region takes."""


def find_wrong_blame(story: Deliveries) -> Iterator[Violation]:
    """A violation for each dead letter whose reason the truth contradicts."""
    calls = {call.request_id: call for call in story.evidence.calls if call.request_id}
    for copy in story.copies:
        seen = story.event_of_copy(copy)
        if copy.is_dead and seen is not None and (why := _contradiction(story, calls, copy, seen)):
            headers = copy.headers
            said = f"{headers.reason} ({headers.error_code}), so {fault_of(headers.reason, headers.error_code or '')}"
            sentence = (
                f"the dead letter at {position_of(copy.written.origin)}, of {position_of(headers.origin)} to "
                f"{headers.destination}, says {said}: {why}"
            )
            yield Violation(ASSERTION, sentence, copy.written.at)


def find_hopeless_retries(story: Deliveries) -> Iterator[Violation]:
    """A violation for each retry copy of an entry that AWS refused for the event's sake."""
    calls = {call.request_id: call for call in story.evidence.calls if call.request_id and call.is_clear}
    for copy in story.copies:
        call, seen = calls.get(copy.headers.request_id or ""), story.event_of_copy(copy)
        if copy.is_dead or call is None or seen is None or copy.headers.reason != "retryable":
            continue
        own = [entry for entry in call.entries if story.is_entry_of(entry, seen)]
        named = [entry for entry in own if entry.code == copy.headers.error_code]  # of twins in one call, the copy's
        if any(entry.fault == "producer" for entry in named or own):
            if len(call.entries) > 1 and call.fault == "producer":
                continue  # the whole batch was refused: its entries are sent one by one
            sentence = (
                f"the copy at {position_of(copy.written.origin)} waits for a retry, although AWS rejected the event"
            )
            yield Violation(ASSERTION, sentence, copy.written.at)


def _contradiction(story: Deliveries, calls: dict[str, Call], copy: CopySeen, seen: EventSeen) -> str:
    reason, event = copy.headers.reason, _event(story, copy, seen)
    if reason == "undecodable":
        return _undecodable(copy, event)
    if isinstance(event, Undecodable):
        return "the record is no canonical event"
    match reason:
        case "oversize":
            return _oversize(event)
        case "suspended":
            return _suspended(story, copy)
        case "expired":
            return _expired(story, copy, seen)
        case _:
            return _refused(story, calls, copy, event)


def _event(story: Deliveries, copy: CopySeen, seen: EventSeen) -> Event | Undecodable:
    """The event that the worker had: a replay's is the copy, which leaves out headers whose names are not UTF-8."""
    record = copy.written.record
    if copy.headers.replay is None:
        return seen.event
    return decode(record.value, producer_headers(record.headers), story.evidence.settings.vendor)


def _undecodable(copy: CopySeen, event: Event | Undecodable) -> str:
    if isinstance(event, Event):
        return "the record is a canonical event"
    is_ours = event.field == VENDOR_SETTING
    if is_ours != (copy.headers.error_code == VENDOR_SETTING):
        return f"the broken rule is {event.field}"
    return ""


def _oversize(event: Event) -> str:
    return "" if event.size > _FORMER_REQUEST_BYTES - 1024 else f"it has {event.size} of {MAX_REQUEST_BYTES} bytes"


def _refused(story: Deliveries, calls: dict[str, Call], copy: CopySeen, event: Event) -> str:
    """The error of a letter that says rejected or blocked: AWS did not refuse it, or the customer is not at fault."""
    headers = copy.headers
    if headers.error_code == "NoDestination" or headers.destination is None:
        owner = event.vendor, event.customer_external_id
        at = copy.written.at
        reader = story.reader(copy.written.host, at, at)
        return "it had a destination" if story.documents.certain(owner, at, at, reader) else ""
    call = calls.get(headers.request_id or "")
    if call is None:
        is_true = _is_in_garbled_answer(story, copy, event) or _ever_refused(story, copy)
        return "" if is_true else "AWS never refused this destination"
    faults = {entry.fault for entry in call.entries if entry.key == event.idempotency_key} | {call.fault}
    if "ours" in faults:
        return "" if _looks_like_the_roles(story, call) else f"the cause was ours in the call {call.request_id}"
    own = [entry for entry in call.entries if entry.key == event.idempotency_key]
    if own and all(entry.is_taken_despite(headers.error_code) for entry in own) and call.fault is None:
        return f"the bus took it in the call {call.request_id}"
    if not faults & {"customer", "producer"}:
        return f"the cause could pass in the call {call.request_id}"
    is_of_batch = call.fault == "producer" and len(call.entries) > 1 and call.api == "PutEvents"
    return f"it was refused together with others in the call {call.request_id}" if is_of_batch else ""


def _is_in_garbled_answer(story: Deliveries, copy: CopySeen, event: Event) -> bool:
    """Whether AWS refused the event with this code in an answer that lost its request id on the way."""
    code = copy.headers.error_code
    return any(
        call.is_garbled and any(one.key == event.idempotency_key and one.code == code for one in call.entries)
        for call in story.calls_of.get(story.documents.group(copy.headers.destination or ""), ())
    )


def _looks_like_the_roles(story: Deliveries, call: Call) -> bool:
    """Whether nothing tells a worker that our identity, and not this role, is to blame for a denial.

    AWS's answer does not say so. Another customer's role does, if there is one.
    """
    if call.api != "AssumeRole" or call.code != "AccessDenied":
        return False
    roles = story.documents.certain_roles(call.at, story.reader(call.host, call.at, call.at))
    return all(_account_of(role) == _account_of(call.target) for role in roles)


def _is_open(story: Deliveries, denial: Call, copies: Sequence[CopySeen]) -> bool:
    """Whether the worker could not tell whose fault the denial of a role was, as another role gave no clear answer.

    It asks for roles of other accounts in the time that one call has. They show that its own identity is at fault. Once
    it knows this, as its copies tell, it believes it until STS grants a role.
    """
    if denial.api != "AssumeRole" or denial.code != "AccessDenied":
        return False
    asked = [call for call in story.evidence.calls if call.api == "AssumeRole" and call.host == denial.host]
    granted_at = max((call.at for call in asked if call.status == 200 and call.at < denial.at), default=0.0)
    for copy in copies:
        is_known = copy.headers.error_code == BASE_CREDENTIALS_DENIED and copy.written.host == denial.host
        if is_known and granted_at < copy.written.at < denial.at:
            return False
    until = denial.at + story.evidence.settings.eventbridge.call_secs
    others = [call for call in asked if _account_of(call.target) != _account_of(denial.target)]
    return any(denial.at < call.at <= until and not (call.is_clear and call.code == "AccessDenied") for call in others)


def _account_of(arn: str) -> str:
    return arn.split(":")[4]


def _suspended(story: Deliveries, copy: CopySeen) -> str:
    if not _ever_refused(story, copy):
        return "AWS never refused this destination"
    group, host = story.documents.group(copy.headers.destination or ""), copy.written.host
    at = copy.written.at
    if not story.had_wrong_clock(host):  # Kafka may take a letter long after it was decided on
        at = min(at, copy.headers.failed_at_ms / 1000 - story.evidence.epoch)
    calls = [call for call in story.calls_of.get(group, ()) if call.host == host and call.at <= at]
    good = [call.at for call in calls if call.is_good and call.api == "PutEvents" and (call.answered_at or at) < at]
    refused = [call.at for call in calls if call.fault == "customer" or not call.is_good]
    if good and max(refused, default=0.0) < good[-1] - _IN_FLIGHT_SECS and at > good[-1] + _IN_FLIGHT_SECS:
        return f"its bus took a call at {good[-1]:.3f}, and refused none after that"
    return ""


def _ever_refused(story: Deliveries, copy: CopySeen) -> bool:
    """Whether AWS refused a call for the destination before, for the customer's sake, or it had no usable document."""
    destination, at = copy.headers.destination or "", copy.written.at
    group = story.documents.group(destination)
    if any(one <= at for one in story.refusals.get(group, ())):
        return True
    if any(call.at <= at and _looks_like_the_roles(story, call) for call in story.calls_of.get(group, ())):
        return True
    return story.documents.was_unusable(destination, at, Reader(story.first_seen.get(copy.written.host, at)))


def _expired(story: Deliveries, copy: CopySeen, seen: EventSeen) -> str:
    bounds = story.documents.retry_bounds(copy.headers.destination, story.evidence.settings.delivery.max_age_secs)
    is_spent, max_age_secs = copy.headers.attempts >= bounds.max_attempts, bounds.max_age_secs
    age = max(copy.written.at - seen.written.at, _age_on_cursor(story, copy, seen))
    hosts = {copy.written.host, *(one.written.host for one in story.copies_of(seen, copy.headers.destination))}
    if any(map(story.had_wrong_clock, hosts)):
        return ""
    if copy.headers.replay is None and age < max_age_secs - _CLOCK_SECS and not is_spent:
        return f"its record is {age:.0f} s old, and deliveries expire after {max_age_secs:.0f} s"
    failures = [
        call
        for call in story.calls_of.get(story.documents.group(copy.headers.destination or ""), ())
        if seen.written.at <= call.at <= copy.written.at and not call.is_good
    ]
    if copy.headers.error_code == SIGN_INS_QUEUED:
        return "it waited for its turn to sign in, which is a limit of ours"
    copies = story.copies_of(seen, copy.headers.destination)
    tellers = {one.written.host for one in copies if one.headers.error_code == copy.headers.error_code}
    if (
        failures
        and all(
            call.fault == "ours" and call.is_clear and not (call.host in tellers and _is_open(story, call, copies))
            for call in failures
        )
        and (of_holders := _failures_of_holders(story, failures, copy, seen))
        and (is_spent or age - _our_secs(story, of_holders, copy) < max_age_secs)
    ):
        return "each of its calls failed for a cause of ours"
    if _counts_our_wait(story, copy, seen):
        return "it waited on a retry topic for a cause of ours, and that wait counts for its age"
    if not copy.headers.attempts and not any(one.written.at < copy.written.at and not one.is_dead for one in copies):
        had_secs = _had_secs(story, copy, seen)
        if had_secs < max_age_secs - _ROUNDING_SECS:
            return f"its worker had its partition for {had_secs:.0f} s, and made no call for it"
    return ""


def _had_secs(story: Deliveries, letter: CopySeen, seen: EventSeen) -> float:
    """The seconds for which the letter's worker had had the event's partition, when it gave the delivery up.

    Nobody may have had the partition before. Such time delays a delivery, and no customer is to blame for it.
    """
    partition = Partition(seen.written.record.topic, seen.written.record.partition)
    given_up_at = letter.headers.failed_at_ms / 1000 - story.evidence.epoch
    assigned = [
        at
        for at, host, signal in story.evidence.signals
        if isinstance(signal, PartitionsAssigned)
        and host == letter.written.host
        and at <= given_up_at
        and any(partition == one for one, _ in signal.partitions)
    ]
    return given_up_at - max(assigned, default=given_up_at)


def _age_on_cursor(story: Deliveries, copy: CopySeen, seen: EventSeen) -> float:
    """The age in seconds that a cursor gave the delivery; 0 when no cursor can have given it.

    It counts from the record's time or the cursor's opening, whichever is later. Both may be before Kafka took the
    record: a producer whose request was lost repeats it after a minute, with the time of the first try.
    """
    made_at_ms, since_ms = seen.written.record.timestamp_ms, copy.headers.first_attempt_at_ms
    now_ms = 1000 * (story.evidence.epoch + copy.written.at)
    return (now_ms - since_ms) / 1000 if since_ms and since_ms >= made_at_ms > 0 else 0.0


def _failures_of_holders(
    story: Deliveries, failures: Sequence[Call], letter: CopySeen, seen: EventSeen
) -> Sequence[Call]:
    """The failed calls of workers that may have had the delivery: from its event's partition, or from a copy.

    The delivery waited for no call of another worker. Its own worker may have found the endpoint unreachable, and such
    a call never reaches AWS.
    """
    partition = Partition(seen.written.record.topic, seen.written.record.partition)
    holders = {letter.written.host, *(one.written.host for one in story.copies_of(seen, letter.headers.destination))}
    holders |= {
        host
        for at, host, signal in story.evidence.signals
        if isinstance(signal, PartitionsAssigned)
        and at <= letter.written.at
        and any(partition == assigned for assigned, _ in signal.partitions)
    }
    return [call for call in failures if call.host in holders]


def _our_secs(story: Deliveries, failures: Sequence[Call], letter: CopySeen) -> float:
    """The seconds in which a destination got nothing because of us: from each failure until its bus takes a call.

    Afterwards its deliveries wait for their turn, at a destination that takes two calls a second for example.
    """
    calls = story.calls_of.get(story.documents.group(letter.headers.destination or ""), ())
    good = [call.at for call in calls if call.api == "PutEvents" and call.is_good]
    found, until = 0.0, 0.0
    for failure in failures:
        if failure.at >= until:
            until = min((at for at in good if at > failure.at), default=letter.written.at)
            found += min(until, letter.written.at) - failure.at
    return found


def _counts_our_wait(story: Deliveries, letter: CopySeen, seen: EventSeen) -> bool:
    """Whether a wait for a cause of ours has not moved the beginning of the delivery's age.

    A letter that comes from one of several copies may come from any of them: all must have waited for us.
    """
    headers = letter.headers
    before = [
        copy.headers
        for copy in story.copies_of(seen, headers.destination)
        if not copy.is_dead and copy.headers.replay == headers.replay and copy.written.at < letter.written.at
    ]
    same = [one for one in before if one.first_attempt_at_ms == headers.first_attempt_at_ms]
    return bool(same) and all(is_our_fault(one.error_code or "") for one in same)
