"""Dead letters, read back from the DLQ: what died, whose fault it was, and whether it can be sent again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple

from pushrail_stream.core.commit import decode_settled
from pushrail_stream.core.event import Decode, Event, decode
from pushrail_stream.core.headers import BadHeader, DeliveryHeaders, decode_headers, original_of
from pushrail_stream.core.identity import Identity, identify, identity_of
from pushrail_stream.core.record import Origin, Record
from pushrail_stream.core.retry import FOREIGN, Fault, fault_of
from pushrail_stream.kafka.client_properties import retries_consumer
from pushrail_stream.kafka.groups import committed_by
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.operations.topic_reader import Progress, read_topic
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.policy import decoder_of


@dataclass(frozen=True, slots=True)
class DeadLetterRecord:
    """One record of the DLQ."""

    record: Record
    event: Event | None
    """None for what cannot be decoded."""
    identity: Identity
    """As far as it can be read where the event cannot be decoded."""
    origin: Origin
    """The event's record; the dead letter's own position where it does not say."""
    failed_at_ms: int
    """Epoch milliseconds."""
    state: DeliveryHeaders | None = None
    """None when its delivery headers are invalid: another program has written or damaged the record."""
    flaw: BadHeader | None = None
    """The first delivery header that cannot be read; None when all can."""
    reason: str = FOREIGN
    """One of `REASONS`."""
    code: str = ""
    """AWS's or our code."""
    destination: str | None = None
    """Id of the destination it did not reach; None when there was none, or when it is unknown."""
    replays: int = 0
    """Replays before it became a dead letter."""

    @property
    def fault(self) -> Fault:
        """The fault behind it."""
        return fault_of(self.reason, self.code)

    def original(self) -> Record:
        """The event's record as it was produced."""
        return original_of(self.record, self.origin)


def read_dead_letter(record: Record, vendor: str | None, decode: Decode = decode) -> DeadLetterRecord:
    """A record of the DLQ as a dead letter; ``vendor`` is that of records without a header."""
    state = decode_headers(record.headers)
    decoded = decode(record.value, record.headers, vendor)
    event = decoded if isinstance(decoded, Event) else None
    identity = identify(record.value) if event is None else identity_of(event)
    if isinstance(state, BadHeader):
        return DeadLetterRecord(record, event, identity, record.origin, record.timestamp_ms, flaw=state)
    return DeadLetterRecord(
        record,
        event,
        identity,
        state.origin,
        state.failed_at_ms,
        state,
        reason=state.reason,
        code=state.error_code or "",
        destination=state.destination,
        replays=state.replay_count or 0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters are meant; what is None or empty does not matter."""

    destination: str | None = None
    key: str | None = None
    """The event's idempotency key."""
    customer: str | None = None
    vendor: str | None = None
    reasons: frozenset[str] = frozenset()
    fault: Fault | None = None
    code: str | None = None
    event_type: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    origin: str | None = None
    """The event's, ``topic/partition/offset``."""
    replay: str | None = None

    def matches(self, letter: DeadLetterRecord) -> bool:
        """Whether this letter is one of them. Times are those of the failure, ``until_ms`` excluded."""
        state, event = letter.state, letter.event
        known = (
            (self.destination, letter.destination),
            (self.key, letter.identity.idempotency_key),
            (self.customer, letter.identity.customer_external_id),
            (self.vendor, event.vendor if event else None),
            (self.fault, letter.fault),
            (self.code, letter.code),
            (self.event_type, letter.identity.event_type),
            (self.origin, str(state.origin) if state else None),
            (self.replay, state.replay if state else None),
        )
        return (
            all(wanted is None or wanted == found for wanted, found in known)
            and (not self.reasons or letter.reason in self.reasons)
            and (self.since_ms is None or letter.failed_at_ms >= self.since_ms)
            and (self.until_ms is None or letter.failed_at_ms < self.until_ms)
        )


def all_dead_letters(settings: Settings, since_ms: int | None, progress: Progress) -> Iterator[DeadLetterRecord]:
    """The DLQ's records that may have failed since then, oldest first in each partition."""
    # A dead letter is written after it has failed, so none of them lies before that time.
    read = _reader(settings)
    for record in read_topic(settings, settings.topics.dlq, "dead letters", progress, since_ms=since_ms):
        yield read(record)


def find_dead_letters(
    settings: Settings, wanted: DeadLetterFilter, at: Origin | None, progress: Progress
) -> Iterator[DeadLetterRecord]:
    """The dead letters that match and lie at a position, if one is given: in the DLQ, or of the event's record."""
    found: Iterable[DeadLetterRecord]
    if at is not None and at.topic == settings.topics.dlq:
        starts, only = {at.partition: at.offset}, [at.partition]
        records = read_topic(settings, at.topic, "dead letters", progress, starts=starts, only=only)
        # An offset may hold no record. Kafka then returns the next one, which was not asked for.
        read = _reader(settings)
        found = (read(record) for record in islice(records, 1) if record.offset == at.offset)
    else:
        letters = all_dead_letters(settings, wanted.since_ms, progress)
        found = (letter for letter in letters if at is None or str(at) == str(letter.origin))
    return (letter for letter in found if wanted.matches(letter))


def read_waiting(settings: Settings, progress: Progress) -> Iterator[DeadLetterRecord]:
    """The copies on retry topics that the workers' group has not settled. Raises `OperatorError`."""
    kafka, read = reached_kafka(settings), _reader(settings)
    for topic in settings.topics.retry:
        group = committed_by(kafka, retries_consumer(kafka).group_id, topic)
        starts = {number: committed.offset for number, committed in group.items()}
        settled = {number: frozenset(decode_settled(committed)) for number, committed in group.items()}
        for record in read_topic(settings, topic, topic, progress, starts=starts):
            if record.offset not in settled.get(record.partition, ()):
                yield read(record)


def _reader(settings: Settings) -> Callable[[Record], DeadLetterRecord]:
    """Reads records in the format of the settings."""
    return partial(read_dead_letter, vendor=settings.vendor, decode=decoder_of(settings))


class Group(NamedTuple):
    """Dead letters of one kind."""

    destination: str
    customer: str
    reason: str
    fault: Fault
    code: str


@dataclass(slots=True)
class Tally:
    """The dead letters of one kind. Times are epoch milliseconds, of those that were not replayed."""

    count: int = 0
    """Dead letters that were not replayed since."""
    replayed: int = 0
    oldest_ms: int | None = None
    newest_ms: int | None = None


def count_dead_letters(
    letters: Iterable[DeadLetterRecord], is_replayed: Callable[[DeadLetterRecord], bool]
) -> dict[Group, Tally]:
    """Dead letters by destination, customer, reason and code."""
    groups: dict[Group, Tally] = {}
    for letter in letters:
        customer = letter.identity.customer_external_id or ""
        group = Group(letter.destination or "", customer, letter.reason, letter.fault, letter.code)
        tally = groups.setdefault(group, Tally())
        if is_replayed(letter):
            tally.replayed += 1
            continue
        tally.count += 1
        at = letter.failed_at_ms
        tally.oldest_ms = at if tally.oldest_ms is None else min(tally.oldest_ms, at)
        tally.newest_ms = at if tally.newest_ms is None else max(tally.newest_ms, at)
    return groups
