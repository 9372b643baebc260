"""``pushrail-stream usage``: deliveries of a month by customer or destination."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import Cell, Column, emit_with_lists, format_time, note
from pushrail_stream.errors import UsageError
from pushrail_stream.operations.times import now_ms

if TYPE_CHECKING:
    from pushrail_stream.operations.usage import Amount, By, Month, Subject, Usage

_BY: Final = ("customer", "destination")
_AMOUNTS: Final = ("deliveries", "bytes", "units")
_HEADS: Final = {
    "customer": ("customer", Column("vendor", drop=1), *_AMOUNTS),
    "destination": ("destination", "customer", Column("vendor", drop=1), *_AMOUNTS),
}


@click.command(epilog="Example: pushrail-stream usage --by customer --month 2026-11")
@click.option(
    "--by", type=click.Choice(_BY), default="customer", show_default=True, help="Count by customer or by destination."
)
@click.option("--month", metavar="YYYY-MM", help="Count this month's deliveries, in UTC. [default: the present one]")
@common_options
def usage(options: Options, *, by: By, month: str | None) -> None:
    """Count a month's deliveries from the delivery log: how many, their bytes, and units of 64 KB as EventBridge bills.

    An event of up to 64 KB is one unit, of up to 128 KB two, and so on. Failed attempts, dead letters and skipped
    events do not count; deliveries that were repeated or replayed count each time, as they do on AWS's bill.

    The log has to reach back to the month's beginning: keep its topic (retention.ms of topics.attempts) or an index
    (`attempts index --keep 62`) for two months. Where it does not, the command says so. Attempt records that were lost
    (pushrail_attempts_log_lost_total) are missing here too. With --json: one object.
    """
    from pushrail_stream.operations.usage import parse_month, read_usage, this_month

    name = month or this_month()
    period = parse_month(name)
    if period is None:
        raise UsageError("--month: must be a month such as 2026-11")
    if period.since_ms > now_ms():
        raise UsageError(f"--month: {name} is yet to come")
    with options.progress() as progress:
        found = read_usage(options.settings, period, by, progress)
    if options.json:
        _emit(name, by, period, found)
    else:
        options.table(_HEADS[by], (_row(subject, amount) for subject, amount in found.largest_first()))
        total = found.total
        options.say(f"{name}: {total.entries:,} deliveries, {total.bytes:,} bytes, {total.units:,} units of 64 KB")
    _note_gaps(name, period, found)


def _row(subject: Subject, amount: Amount) -> tuple[Cell, ...]:
    who = (subject.customer, subject.vendor)
    return (*(who if subject.destination is None else (subject.destination, *who)), *_numbers(amount).values())


def _numbers(amount: Amount) -> dict[str, int]:
    return dict(zip(_AMOUNTS, (amount.entries, amount.bytes, amount.units), strict=True))


def _emit(name: str, by: By, period: Month, found: Usage) -> None:
    facts: dict[str, Any] = {
        "month": name, "by": by, "isComplete": found.is_complete, "isOver": period.until_ms <= now_ms(),
        "oldest": format_time(found.oldest_ms) or None, "withoutSize": found.unsized, "total": _numbers(found.total),
    }  # fmt: skip
    rows = (
        {"vendor": subject.vendor, "customerExternalId": subject.customer}
        | ({} if subject.destination is None else {"destinationId": subject.destination})
        | _numbers(amount)
        for subject, amount in found.largest_first()
    )
    emit_with_lists(facts, {"usage": rows})


def _note_gaps(name: str, period: Month, found: Usage) -> None:
    if not found.is_complete:
        since = f": the oldest delivery is of {format_time(found.oldest_ms)}" if found.oldest_ms is not None else ""
        note(f"warning: {name} may be incomplete, as the delivery log may not reach back to its beginning{since}")
    if found.unsized:
        note(f"warning: {found.unsized} records have no size and count as deliveries without units")
    if period.until_ms > now_ms():
        note(f"{name} is not over yet")
