"""Checks whether every delivery of a period is accounted for, from the topics alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from pushrail_stream.core.commit import decode_settled
from pushrail_stream.core.skips import find_skip
from pushrail_stream.kafka.groups import UnreadableCursorsError, committed_by, open_cursors
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.kafka.replay_journal import read_marks
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.kafka.topic_ids import topic_id
from pushrail_stream.operations.accounts import Accounts, Status, Tally, Topic, TracedDelivery
from pushrail_stream.operations.dead_letters import all_dead_letters, read_waiting
from pushrail_stream.operations.spill import Spill
from pushrail_stream.operations.topic_reader import Progress, read_scan, read_topic
from pushrail_stream.ports.pipeline import Directory
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.policy import decoder_of


@final
class CheckResult:
    """The counts of a check. The deliveries themselves are read from a file each time they are asked for."""

    def __init__(
        self, accounts: Accounts, unreadable_events: int, unreadable_cursors: UnreadableCursorsError | None
    ) -> None:
        self._accounts = accounts
        self.events = accounts.events
        self.unreadable_attempts = accounts.unreadable
        self.unreadable_events = unreadable_events
        """Offsets of events that cannot be read, without those that an operator ordered to skip."""
        self.unreadable_cursors = unreadable_cursors
        """The partitions whose cursors cannot be read; their deliveries without an end count as pending."""
        self.tally = Tally()
        for status, delivery in accounts.deliveries():
            self.tally.add(status, delivery)

    def deliveries(self, wanted: Status) -> Iterator[TracedDelivery]:
        """The deliveries of this status."""
        found = self._accounts.deliveries() if self.tally.total[wanted] else iter(())
        return (delivery for status, delivery in found if status == wanted)


@contextmanager
def check_deliveries(
    settings: Settings,
    directory: Directory,
    period: tuple[int, int],
    progress: Progress,
    *,
    customer: str | None = None,
) -> Iterator[CheckResult]:
    """Check the events produced in a period (epoch ms, the end excluded). Raises `OperatorError`.

    ``directory`` has the destinations there are now. The result can be read while the block lasts.
    """
    events = Topic(settings.topics.events, topic_id(reached_kafka(settings), settings.topics.events))
    with Spill.open() as spill:
        accounts = Accounts(spill, events, directory, settings.vendor, customer=customer, decode=decoder_of(settings))
        unreadable_cursors = _read_commits(accounts, settings)
        unreadable_events = _read_records(accounts, settings, *period, progress)
        yield CheckResult(accounts, unreadable_events, unreadable_cursors)


def _read_commits(accounts: Accounts, settings: Settings) -> UnreadableCursorsError | None:
    """Feed the accounts with the group's commits. The cursors among them that cannot be read."""
    topics, kafka = settings.topics, reached_kafka(settings)
    for partition, at in committed_by(kafka, settings.kafka.group_id, topics.events).items():
        accounts.set_committed(partition, at.offset, decode_settled(at))
    try:
        cursors, problem = open_cursors(kafka, settings.kafka.group_id, topics), None
    except UnreadableCursorsError as error:
        cursors, problem = dict(error.readable), error
        for partition in error.partitions:
            accounts.set_unreadable_cursors(partition)
    for partition, found in cursors.items():
        accounts.set_cursors(partition, found.states)
    return problem


def _read_records(accounts: Accounts, settings: Settings, since_ms: int, until_ms: int, progress: Progress) -> int:
    """Feed the accounts, first with the retry copies that wait. The number of unreadable events."""
    topics, kafka = settings.topics, reached_kafka(settings)
    for copy in read_waiting(settings, progress):
        accounts.add_waiting(copy)
    with Scan(kafka, topics.events, since_ms=since_ms) as scan:
        for record in read_scan(scan, "events", progress):
            # Reading starts at the first event of the period, so a record without a time may belong to the period.
            if record.recorded_at_ms is None or since_ms <= record.timestamp_ms < until_ms:
                accounts.add_event(record)
    for record in read_topic(settings, topics.attempts, "attempts", progress, since_ms=since_ms):
        accounts.add_attempt(record.value)
    for letter in all_dead_letters(settings, since_ms, progress):
        accounts.add_dead_letter(letter)
    _look_back(accounts, settings, since_ms, progress)
    return _unaccounted(settings, scan)


def _unaccounted(settings: Settings, scan: Scan) -> int:
    """The number of offsets that the scan could not read, without those that an operator ordered to skip."""
    if not scan.unreadable:
        return 0
    marks = read_marks(reached_kafka(settings), settings.topics.replays)
    unknown = [
        batch for partition, batch in scan.unreadable if find_skip(marks, partition, batch.first, scan.topic_id) is None
    ]
    return sum(batch.end - batch.first for batch in unknown)


def _look_back(accounts: Accounts, settings: Settings, since_ms: int, progress: Progress) -> None:
    """Search the older attempts for destinations that have no trace since then. Only for them the whole log is read."""
    unseen = set(accounts.unseen_destinations())
    if not unseen:
        return
    for record in read_topic(settings, settings.topics.attempts, "earlier attempts", progress):
        destination = (record.key or b"").decode(errors="replace")
        if destination in unseen and record.timestamp_ms < since_ms:
            accounts.mark_seen(destination)
            unseen.remove(destination)
            if not unseen:
                return
