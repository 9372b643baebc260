"""``pushrail-stream dlq``: dead letters, counted and shown."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from pushrail_stream.cli.options import FROM_THEN_ON, Options, common_options, moment_option, parse_position
from pushrail_stream.cli.output import Column, emit, format_time, note, say, shortened
from pushrail_stream.core.event import MAX_LEVELS
from pushrail_stream.core.retry import FAULTS, REASONS
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.operations.times import check_period

if TYPE_CHECKING:
    from pushrail_stream.operations.dead_letters import DeadLetterFilter, DeadLetterRecord
    from pushrail_stream.operations.replay_selection import ReplayMark

_DUMPED: Final = 1024
"""Bytes that are shown of a value that is no event, in hex."""
_ROW: Final = 16
"""Bytes of a line."""
_LONG: Final = 1_000
"""Characters of a line that a terminal shows: a dozen of its lines."""
_DEFAULT_LIMIT: Final = 10
"""Dead letters that are shown without --limit."""
_COLUMNS: Final = (
    "destination", Column("customer", drop=2), "reason", Column("fault", drop=1), "code", "count", "replayed",
    Column("oldest", "time", drop=3), Column("newest", "time"),
)  # fmt: skip


_OPTIONS: Final = (
    click.option("--destination", metavar="ID", help="Only dead letters of this destination."),
    click.option("--key", metavar="KEY", help="Only dead letters of the event with this idempotency key."),
    click.option("--customer", metavar="ID", help="Only dead letters of this customer (customerExternalId)."),
    click.option("--vendor", help="Only dead letters of this vendor's events."),
    click.option(
        "--reason", "reasons", type=click.Choice(REASONS), multiple=True,
        help='Only dead letters with this reason; may be repeated. "foreign": the record was written or damaged by '
        "another program.",
    ),
    click.option(
        "--fault", type=click.Choice(FAULTS),
        help="Only dead letters caused by the customer, by the record's producer, or by our settings.",
    ),
    click.option("--code", help="Only dead letters with this error code, AWS's or ours."),
    click.option("--event-type", help="Only dead letters of events of exactly this type."),
    moment_option("since", f"Only deliveries that failed {FROM_THEN_ON}"),
    moment_option("until", "Only deliveries that failed before this time."),
    click.option("--origin", metavar="POSITION", help="Only dead letters of the event at topic/partition/offset."),
    click.option("--replay", metavar="ID", help="Only deliveries that failed in this replay."),
)  # fmt: skip


def dead_letter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the filter's options, as one argument ``wanted``."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        from pushrail_stream.operations.dead_letters import DeadLetterFilter

        values = {name: kwargs.pop(name) for name in DeadLetterFilter.__slots__}
        check_period(values["since_ms"], values["until_ms"])
        command(*args, wanted=DeadLetterFilter(**values | {"reasons": frozenset(values["reasons"])}), **kwargs)

    for option in reversed(_OPTIONS):
        wrapper = option(wrapper)
    return wrapper


@click.group(epilog="Example: pushrail-stream dlq list --since 2h")
def dlq() -> None:
    """Show dead letters: deliveries that were given up, and why."""


@dlq.command("list", epilog="Example: pushrail-stream dlq list --destination dst_acme_8K2zRq --reason blocked")
@dead_letter_options
@click.option("--all", "is_all", is_flag=True, help="Show also the kinds of which all were replayed.")
@common_options
def list_(options: Options, *, wanted: DeadLetterFilter, is_all: bool) -> None:
    """Count dead letters by destination, customer, reason and code, with the oldest and the newest of each.

    Those that were replayed since are counted in a column of their own.

    Fault "customer": the customer's side refused the event, or the event itself is at fault. Fault "producer": the
    producer (or we) wrote a record that is no event. Fault "ours": an event without the header pushrail-vendor came
    while the setting vendor was not set. Reason "foreign": delivery headers are missing or invalid, because another
    program has written or damaged the record; such a record is shown and never replayed. With --json: one object for
    each row.
    """
    from pushrail_stream.operations.dead_letters import count_dead_letters, find_dead_letters
    from pushrail_stream.operations.replayed import Replays

    with options.progress() as progress:
        replays = Replays.read(options.settings)
        letters = find_dead_letters(options.settings, wanted, None, progress)
        groups = count_dead_letters(letters, lambda letter: replays.since(letter) is not None)
    rows = sorted(groups.items(), key=lambda item: (-item[1].count, item[0]))
    options.table(
        _COLUMNS,
        ((*group, t.count, t.replayed, t.oldest_ms, t.newest_ms) for group, t in rows if t.count or is_all),
    )
    if not options.json:
        replayed = sum(tally.replayed for tally in groups.values())
        note(f"{sum(t.count for t in groups.values())} dead letters" + (f", {replayed} more replayed" * bool(replayed)))


@dlq.command(epilog="Example: pushrail-stream dlq show pushrail.dlq/3/1042")
@click.argument("position", metavar="[POSITION]", required=False)
@dead_letter_options
@click.option("--limit", type=click.IntRange(1), help="Show at most this many. [default: 10; with POSITION all]")
@common_options
def show(options: Options, *, position: str | None, wanted: DeadLetterFilter, limit: int | None) -> None:
    """Show the dead letter at POSITION: topic/partition/offset, in the DLQ or of the event's own record.

    An event may have a dead letter for each of its destinations; all are shown. Without POSITION, the options select
    the dead letters.

    With --json: one object for each, with the event, or any other JSON, as event; and the first bytes in hex of a value
    that is no event.
    """
    from pushrail_stream.operations.dead_letters import DeadLetterFilter, find_dead_letters
    from pushrail_stream.operations.replayed import Replays

    options.refuse_csv()
    settings = options.settings
    at = None if position is None else parse_position(position)
    if at is None and wanted == DeadLetterFilter():
        raise UsageError("POSITION: is required, or an option that selects dead letters")
    found, max_ = 0, _DEFAULT_LIMIT if limit is None and at is None else limit
    with options.progress() as progress, _deep_json():
        replays = Replays.read(settings)
        for letter in islice(find_dead_letters(settings, wanted, at, progress), max_):
            found += 1
            if options.json:
                emit(_as_json(letter, replays.since(letter)))
            else:
                _print(letter, replays.since(letter))
    if not found:
        what = "there is no such dead letter" if position is None else f"{position}: there is no such dead letter"
        raise OperatorError(f"{what} in {settings.topics.dlq}")


@contextmanager
def _deep_json() -> Iterator[None]:
    """Raise Python's recursion limit, so that JSON is read and written as deeply as events may be nested."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + 2 * MAX_LEVELS)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _facts(letter: DeadLetterRecord, replayed: ReplayMark | None) -> dict[str, Any]:
    state = letter.state
    return {
        "position": str(letter.record.origin),
        "origin": str(letter.origin),
        "reason": letter.reason,
        "fault": letter.fault,
        "destination": letter.destination,
        "code": letter.code,
        "message": state.error_message if state else letter.flaw and f"{letter.flaw.header}: {letter.flaw.problem}",
        "requestId": state.request_id if state else None,
        "attempts": state.attempts if state else None,
        "firstAttemptAt": format_time(state.first_attempt_at_ms) or None if state else None,
        "failedAt": format_time(letter.failed_at_ms),
        "replay": state.replay if state else None,
        "replayCount": letter.replays,
        "replayedBy": replayed.replay if replayed else None,
        "replayedAt": format_time(replayed.at_ms) if replayed else None,
    }


def _headers(letter: DeadLetterRecord) -> list[tuple[str, str | None]]:
    """The producer's headers in their order. A name may come twice, and have no value."""
    return [
        (name, None if value is None else value.decode(errors="backslashreplace"))
        for name, value in letter.original().headers
    ]


def _as_json(letter: DeadLetterRecord, replayed: ReplayMark | None) -> dict[str, Any]:
    value = letter.record.value or b""
    dump = {} if letter.event is not None else {"hex": value[:_DUMPED].hex(), "bytes": len(value)}
    key = (letter.record.key or b"").decode(errors="backslashreplace")
    headers = [{"name": name, "value": text} for name, text in _headers(letter)]
    return {**_facts(letter, replayed), "key": key, "headers": headers, "event": _content(letter), **dump}


def _content(letter: DeadLetterRecord) -> Any:
    """The event as its customer gets it; of a record that is no event, the JSON that its value is, or None."""
    return _json_in((letter.event.value if letter.event is not None else letter.record.value) or b"")


def _json_in(value: bytes) -> Any:
    """The JSON that a value is, its bytes that are not UTF-8 replaced; None for any other value."""
    try:
        return json.loads(value.decode(errors="replace"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    """Refuse NaN and infinity, which only Python takes for JSON."""
    raise ValueError(constant)


def _print(letter: DeadLetterRecord, replayed: ReplayMark | None) -> None:
    for name, fact in _facts(letter, replayed).items():
        if fact not in {None, ""}:
            _say(f"{name:15} {fact}")
    for name, text in _headers(letter):
        _say(f"header          {name}" + ("" if text is None else f": {text}"))
    value = letter.record.value or b""
    if (content := _content(letter)) is not None:
        text = json.dumps(content, indent=2, ensure_ascii=False)
        for line in text.splitlines():
            _say(line)
    else:
        for start in range(0, min(len(value), _DUMPED), _ROW):
            say(_dump_line(start, value[start : min(start + _ROW, _DUMPED)]))
        if len(value) > _DUMPED:
            say(f"... {len(value) - _DUMPED} bytes more")
    click.echo("")


def _say(line: str) -> None:
    say(shortened(line, _LONG))


def _dump_line(start: int, row: bytes) -> str:
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)  # noqa: PLR2004 - printable ASCII
    return f"{start:08x}  {row.hex(' '):<{3 * _ROW}} {text}"
