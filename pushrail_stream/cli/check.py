"""``pushrail-stream check``: whether every delivery of a period is accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import click

from pushrail_stream.cli.options import FROM_THEN_ON, Options, common_options, moment_option
from pushrail_stream.cli.output import emit_with_lists, format_time, note, note_refused, to_the_end
from pushrail_stream.core.retry import FAULTS, Fault
from pushrail_stream.errors import OperatorError
from pushrail_stream.operations.times import check_period, now_ms

if TYPE_CHECKING:
    from pushrail_stream.operations.accounts import TracedDelivery
    from pushrail_stream.operations.check import CheckResult

_SHOWN: Final = 100
"""Missing deliveries that the table's reader sees by name."""
_BY: Final[dict[Fault, str]] = {
    "customer": "by the customer's fault", "producer": "by the producer's fault", "ours": "by our own fault",
}  # fmt: skip


@click.command(epilog="Example: pushrail-stream check --since 2h --until 1h")
@moment_option("since", f"Check events produced {FROM_THEN_ON}", required=True)
@moment_option("until", "Check only events produced before this time. [default: now]")
@click.option("--customer", metavar="ID", help="Check only this customer's events (customerExternalId).")
@common_options
def check(options: Options, *, since_ms: int, until_ms: int | None, customer: str | None) -> None:
    """Tell for each delivery of a period whether it was delivered, dead-lettered or skipped, is pending (a worker or a
    retry topic has it, or its destination is behind and has not reached it), or is MISSING: it left no trace. A dead
    letter whose replay still waits is pending.

    The command reads the events, the attempts log, the DLQ and the retry topics, and the destinations there are now. A
    delivery also counts as missing when the attempts log lost its record (pushrail_attempts_log_lost_total), or no
    longer keeps it. A destination is taken to be newer than an event ("too_new") when the event went to other
    destinations and no older trace of this one exists; such deliveries are counted, and you judge them. An event
    without a Kafka timestamp counts as produced in the period when it lies behind the period's first event; with
    --since 1970-01-01T00:00:00Z each event does.

    The command exits 1 when a delivery is missing, when events cannot be read and no order to skip them explains it, or
    when cursors cannot be read: the deliveries of their partitions that have no end count as pending then.
    With --json: one object, with all deliveries that are missing or too_new.
    """
    from pushrail_stream.operations.check import check_deliveries
    from pushrail_stream.operations.destinations import known_destinations

    until = now_ms() if until_ms is None else until_ms
    check_period(since_ms, until)
    known = known_destinations(options.settings)
    if known.refused:
        note_refused(known.refused)
        note("deliveries to destinations with refused documents are not looked for")
    with (
        options.progress() as progress,
        check_deliveries(options.settings, known.directory, (since_ms, until), progress, customer=customer) as result,
        to_the_end(),
    ):
        if options.json:
            _emit({"since": format_time(since_ms), "until": format_time(until)}, result)
        else:
            _print(options, result)
            if result.unreadable_attempts:
                note(f"{result.unreadable_attempts} records of {options.settings.topics.attempts} cannot be understood")
    if problems := list(_problems(result)):
        raise OperatorError(*problems)


def _problems(result: CheckResult) -> Iterator[str]:
    if missing := result.tally.total["missing"]:
        yield f"{missing} deliveries are missing"
    if result.unreadable_cursors is not None:
        yield from result.unreadable_cursors.problems
    if result.unreadable_events:
        yield (
            f"up to {result.unreadable_events} events cannot be read, and nothing is known of their deliveries; see "
            "PushrailPartitionUnread in the runbook"
        )


def _emit(period: dict[str, str], result: CheckResult) -> None:
    """Print one JSON object on one line, piece by piece: any number of deliveries may be missing."""
    from pushrail_stream.operations.accounts import STATUSES

    tally = result.tally
    facts = {
        **period,
        "events": result.events,
        "deliveries": {status: tally.total[status] for status in STATUSES},
        "deadLetteredByFault": {fault: tally.faults[fault] for fault in FAULTS},
        "repeated": tally.repeated,
        "replaying": tally.replaying,
        "unreadableAttempts": result.unreadable_attempts,
        "unreadableEvents": result.unreadable_events,
    }
    lists = {"missing": result.deliveries("missing"), "tooNew": result.deliveries("too_new")}
    emit_with_lists(facts, {name: map(_as_json, deliveries) for name, deliveries in lists.items()})


def _as_json(one: TracedDelivery) -> dict[str, str | None]:
    return {"origin": str(one.origin), "customer": one.customer, "destination": one.destination, "last": one.last}


def _print(options: Options, result: CheckResult) -> None:
    from pushrail_stream.operations.accounts import STATUSES

    tally = result.tally
    total, rows = tally.total, sorted(tally.by_destination.items())
    options.table(
        ("destination", *STATUSES), ((name or "-", *(counts[status] for status in STATUSES)) for name, counts in rows)
    )
    for delivery in islice(result.deliveries("missing"), _SHOWN):
        options.say(
            f"MISSING: {delivery.origin} of {delivery.customer or '?'} to {delivery.destination or 'any destination'}"
        )
    if total["missing"] > _SHOWN:
        options.say(f"MISSING: {total['missing'] - _SHOWN} more (--json names them)")
    if total["dead_lettered"]:
        options.say(f"dead-lettered: {', '.join(f'{tally.faults[fault]} {_BY[fault]}' for fault in FAULTS)}")
    if total["too_new"]:
        options.say(f"{total['too_new']} not counted: nothing shows that their destinations existed by then")
    if tally.replaying:
        options.say(
            f"{tally.replaying} replayed deliveries wait on retry topics; those not delivered before are pending"
        )
    counted = total.total() - total["too_new"]
    options.say(f"{result.events} events, {counted} deliveries, {total['missing']} missing, {tally.repeated} repeated")
