"""``pushrail-stream check``: whether every delivery of a time is accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

import click

from pushrail_stream.cli.known import known_destinations
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit_with_lists, note, say, table, to_the_end
from pushrail_stream.cli.progress import Bar
from pushrail_stream.cli.reading import read_topic, watched
from pushrail_stream.cli.times import MOMENT, check_period, now_ms, shown
from pushrail_stream.core.fault import FAULTS, Fault
from pushrail_stream.core.offsets import decode_settled
from pushrail_stream.core.record import Record
from pushrail_stream.core.skips import find_skip
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.client_properties import kafka_for
from pushrail_stream.kafka.groups import committed_by
from pushrail_stream.kafka.replay_journal import ReplayJournal
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.kafka.topic_ids import topic_id
from pushrail_stream.operations.check import STATUSES, Check, Status, Tally, Topic, Traced
from pushrail_stream.operations.dead_letters import read_dead_letter
from pushrail_stream.operations.spill import Spill
from pushrail_stream.settings import Settings

_SHOWN: Final = 100
"""Missing deliveries that are named to people."""
_BY: Final[dict[Fault, str]] = {
    "customer": "by the customer's fault", "producer": "by the producer's fault", "ours": "by our own fault",
}  # fmt: skip


@click.command(epilog="Example: pushrail-stream check --since 2h --until 1h")
@click.option("--since", "since_ms", type=MOMENT, required=True, metavar="TIME", help="Produced then or later.")
@click.option("--until", "until_ms", type=MOMENT, metavar="TIME", help="Produced before then. [default: now]")
@click.option("--customer", metavar="ID", help="Of this customer (customerExternalId) only.")
@common_options
def check(options: Options, *, since_ms: int, until_ms: int | None, customer: str | None) -> None:
    """Say for each delivery of a time: delivered, dead-lettered, skipped, pending (a worker or a retry topic has it),
    or MISSING: there is no trace of what became of it.

    It reads the events, the attempts log, the DLQ and the retry topics, and the destinations there are now. An event is
    also missing when the attempts log lost its record (pushrail_attempts_log_lost_total), or no longer keeps it. A
    destination without any trace from before an event, which went to others, is taken for newer ("too_new"): it is
    counted, and whether that is so is yours to judge. An event without a Kafka timestamp counts as produced in that
    time when it lies behind the first event of it; with --since 1970-01-01T00:00:00Z each does.

    Exits 1 when a delivery is missing, or when events cannot be read and no order to skip them says so. With --json:
    one object, with all that are missing or too_new.
    """
    settings = options.settings
    until = now_ms() if until_ms is None else until_ms
    check_period(since_ms, until)
    destinations, refused = known_destinations(settings)
    if refused:
        note("what is for destinations with refused documents is not looked for")
    events = Topic(settings.topics.events, topic_id(kafka_for(settings), settings.topics.events))
    with Spill.open() as spill:
        found = Check(spill, events, destinations, settings.vendor, customer=customer)
        unread = _feed(found, settings, since_ms, until, quiet=options.json)
        tally = _Found(found, unread)
        with to_the_end():
            if options.json:
                _emit({"since": shown(since_ms), "until": shown(until)}, tally)
            else:
                _print(tally)
                if found.unreadable:
                    note(f"{found.unreadable} records of {settings.topics.attempts} cannot be understood")
    if missing := tally.tally.total["missing"]:
        raise OperatorError(f"{missing} deliveries are missing")
    if unread:
        raise OperatorError(
            f"up to {unread} events cannot be read, and nothing is known of their deliveries; see "
            "PushrailPartitionUnread in the runbook"
        )


class _Found:
    """The counts of a check. The deliveries themselves are read from the spill each time they are asked for."""

    def __init__(self, found: Check, unread: int) -> None:
        """``unread``: offsets of events that could not be read, and that nobody has ordered to skip."""
        self.check = found
        self.unread = unread
        self.tally = Tally()
        for status, delivery in found.deliveries():
            self.tally.add(status, delivery)

    def named(self, wanted: Status) -> Iterator[Traced]:
        """The deliveries of this status."""
        found = self.check.deliveries() if self.tally.total[wanted] else iter(())
        return (delivery for status, delivery in found if status == wanted)


def _emit(period: dict[str, str], found: _Found) -> None:
    """One JSON object on one line, written piece by piece: any number of deliveries may be missing."""
    tally = found.tally
    facts = {
        **period,
        "events": found.check.events,
        "deliveries": {status: tally.total[status] for status in STATUSES},
        "deadLetteredByFault": {fault: tally.faults[fault] for fault in FAULTS},
        "repeated": tally.repeated,
        "unreadableAttempts": found.check.unreadable,
        "unreadableEvents": found.unread,
    }
    lists = {"missing": found.named("missing"), "tooNew": found.named("too_new")}
    emit_with_lists(facts, {name: map(_as_json, deliveries) for name, deliveries in lists.items()})


def _as_json(one: Traced) -> dict[str, str | None]:
    return {"origin": str(one.origin), "customer": one.customer, "destination": one.destination, "last": one.last}


def _print(found: _Found) -> None:
    tally = found.tally
    total, rows = tally.total, sorted(tally.by_destination.items())
    table(("destination", *STATUSES), ((name, *(str(counts[status]) for status in STATUSES)) for name, counts in rows))
    for delivery in islice(found.named("missing"), _SHOWN):
        say(f"MISSING: {delivery.origin} of {delivery.customer or '?'} to {delivery.destination or 'anybody'}")
    if total["missing"] > _SHOWN:
        say(f"MISSING: {total['missing'] - _SHOWN} more (--json names them)")
    if total["dead_lettered"]:
        say(f"dead-lettered: {', '.join(f'{tally.faults[fault]} {_BY[fault]}' for fault in FAULTS)}")
    if total["too_new"]:
        say(f"{total['too_new']} not counted: nothing shows that their destinations were there by then")
    counted = total.total() - total["too_new"]
    say(f"{found.check.events} events, {counted} deliveries, {total['missing']} missing, {tally.repeated} repeated")


def _feed(found: Check, settings: Settings, since_ms: int, until_ms: int, *, quiet: bool) -> int:
    """Whatever is in flight first: whatever moves on meanwhile is met again further down.

    Returns how many offsets of events could not be read, without those that an operator ordered to skip.
    """
    topics, kafka = settings.topics, kafka_for(settings)
    for partition, at in committed_by(kafka, settings.kafka.group_id, topics.events).items():
        found.group_is_at(partition, at.offset, decode_settled(at))
    for topic in topics.retry:
        for record in _unsettled(settings, topic, quiet=quiet):
            found.waits(read_dead_letter(record, settings.vendor))
    with Bar("events", quiet=quiet) as bar, Scan(kafka, topics.events, since_ms=since_ms) as scan:
        for record in watched(scan, bar):
            # One without a time lies among those of this time, since the others are read from the first of them on.
            if record.recorded_at_ms is None or since_ms <= record.timestamp_ms < until_ms:
                found.event(record)
    with Bar("attempts", quiet=quiet) as bar:
        for record in read_topic(settings, topics.attempts, bar, since_ms=since_ms):
            found.attempt(record.value)
    with Bar("dead letters", quiet=quiet) as bar:
        for record in read_topic(settings, topics.dlq, bar, since_ms=since_ms):
            found.letter(read_dead_letter(record, settings.vendor))
    _look_back(found, settings, since_ms, quiet=quiet)
    return _unaccounted(settings, scan)


def _unaccounted(settings: Settings, scan: Scan) -> int:
    """The offsets that the scan could not read, without those that an operator ordered to skip."""
    if not scan.unreadable:
        return 0
    marks = ReplayJournal.read(kafka_for(settings), settings.topics.replays)
    unknown = [
        batch for partition, batch in scan.unreadable if find_skip(marks, partition, batch.first, scan.topic_id) is None
    ]
    return sum(batch.end - batch.first for batch in unknown)


def _look_back(found: Check, settings: Settings, since_ms: int, *, quiet: bool) -> None:
    """Whether destinations that were sent nothing were there before: only for their sake is the whole log read."""
    strangers = set(found.strangers())
    if not strangers:
        return
    with Bar("earlier attempts", quiet=quiet) as bar:
        for record in read_topic(settings, settings.topics.attempts, bar):
            destination = (record.key or b"").decode(errors="replace")
            if destination in strangers and record.timestamp_ms < since_ms:
                found.was_there(destination)
                strangers.remove(destination)
                if not strangers:
                    return


def _unsettled(settings: Settings, topic: str, *, quiet: bool) -> Iterator[Record]:
    """The records of a retry topic that the workers' group has not settled."""
    group = committed_by(kafka_for(settings), f"{settings.kafka.group_id}.retry", topic)
    starts = {number: committed.offset for number, committed in group.items()}
    settled = {number: frozenset(decode_settled(committed)) for number, committed in group.items()}
    with Bar(topic, quiet=quiet) as bar:
        for record in read_topic(settings, topic, bar, starts=starts):
            if record.offset not in settled[record.partition]:
                yield record
