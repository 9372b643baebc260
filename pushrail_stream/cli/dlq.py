"""``pushrail-stream dlq``: what was given up, and why."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

import click

from pushrail_stream.cli.letters import dead_letter_at, dead_letter_options, read_dead_letters
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, note, printable, say, table
from pushrail_stream.cli.positions import parse_position
from pushrail_stream.cli.progress import Bar
from pushrail_stream.cli.times import shown
from pushrail_stream.core.event import MAX_LEVELS
from pushrail_stream.core.record import Origin
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.operations.dead_letters import DeadLetterFilter, DeadLetterRecord, count_dead_letters
from pushrail_stream.settings import Settings

_DUMPED: Final = 1024
"""Bytes of what is no event that are shown."""
_ROW: Final = 16
_UNASKED: Final = 10
"""Letters that are shown of those that options mean."""


@click.group(epilog="Example: pushrail-stream dlq list --since 2h")
def dlq() -> None:
    """Dead letters: what was given up, and why."""


@dlq.command("list", epilog="Example: pushrail-stream dlq list --destination dst_acme_8K2zRq --reason blocked")
@dead_letter_options
@common_options
def list_(options: Options, *, wanted: DeadLetterFilter) -> None:
    """Count dead letters by destination, customer, reason and code, with the oldest and the newest of each.

    Fault "customer": their side refused it, or their event is at fault. Fault "producer": the record's producer, or we,
    wrote something that is no event. Fault "ours": an event without the header pushrail-vendor came while the setting
    vendor was not set. Reason "foreign": delivery headers are missing or invalid, so somebody else has written or
    damaged the record; it is shown and never replayed. With --json: one object for each row.
    """
    with Bar("dead letters", quiet=options.json) as bar:
        groups = count_dead_letters(read_dead_letters(options.settings, wanted, bar))
    rows = sorted(groups.items(), key=lambda item: (-item[1].count, item[0]))
    if options.json:
        for group, tally in rows:
            emit({
                **group._asdict(),
                "count": tally.count,
                "oldest": shown(tally.oldest_ms),
                "newest": shown(tally.newest_ms),
            })  # fmt: skip
        return
    columns = ("destination", "customer", "reason", "fault", "code", "count", "oldest", "newest")
    table(columns, ((*group, str(t.count), shown(t.oldest_ms), shown(t.newest_ms)) for group, t in rows))
    note(f"{sum(tally.count for _, tally in rows)} dead letters")


@dlq.command(epilog="Example: pushrail-stream dlq show pushrail.dlq/3/1042")
@click.argument("position", metavar="[POSITION]", required=False)
@dead_letter_options
@click.option("--limit", type=click.IntRange(1), help="At most so many. [default: 10; with POSITION all]")
@common_options
def show(options: Options, *, position: str | None, wanted: DeadLetterFilter, limit: int | None) -> None:
    """Show the dead letter at POSITION: topic/partition/offset, in the DLQ or of the event's own record.

    An event may have one for each of its destinations; all are shown. Without POSITION: those that the options mean.

    With --json: one object for each, with the event, or the first bytes in hex of what is none.
    """
    settings = options.settings
    at = None if position is None else parse_position(position)
    if at is None and wanted == DeadLetterFilter():
        raise UsageError("POSITION: is required, or an option that says which are meant")
    found, most = 0, _UNASKED if limit is None and at is None else limit
    with Bar("dead letters", quiet=options.json) as bar, _deep():
        for letter in islice(_find(settings, wanted, at, bar), most):
            found += 1
            if options.json:
                emit(_as_json(letter))
            else:
                _print(letter)
    if not found:
        what = "there is no such dead letter" if position is None else f"{position}: there is no such dead letter"
        raise OperatorError(f"{what} in {settings.topics.dlq}")


def _find(settings: Settings, wanted: DeadLetterFilter, at: Origin | None, bar: Bar) -> Iterator[DeadLetterRecord]:
    """Letters that match, and are those at a position if there is one: in the DLQ without reading all of it."""
    if at is not None and at.topic == settings.topics.dlq:
        letter = dead_letter_at(settings, at, bar)
        found = [] if letter is None else [letter]
        yield from (letter for letter in found if wanted.matches(letter))
        return
    yield from (
        letter for letter in read_dead_letters(settings, wanted, bar) if at is None or str(at) == str(letter.origin)
    )


@contextmanager
def _deep() -> Iterator[None]:
    """Let JSON be read and written as deeply as events may be nested: Python's own limit is where theirs is."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + 10 * MAX_LEVELS)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _facts(letter: DeadLetterRecord) -> dict[str, Any]:
    state = letter.state
    return {
        "position": str(letter.position),
        "origin": str(letter.origin),
        "reason": letter.reason,
        "fault": letter.fault,
        "destination": letter.destination,
        "code": letter.code,
        "message": state.error_message if state else letter.flaw and f"{letter.flaw.header}: {letter.flaw.problem}",
        "requestId": state.request_id if state else None,
        "attempts": state.attempts if state else None,
        "firstAttemptAt": shown(state.first_attempt_at_ms) or None if state else None,
        "failedAt": shown(letter.failed_at_ms),
        "replay": state.replay if state else None,
        "replayCount": letter.replays,
    }


def _headers(letter: DeadLetterRecord) -> list[tuple[str, str | None]]:
    """The producer's, in their order: a name may come twice, and have no value."""
    return [
        (name, None if value is None else value.decode(errors="backslashreplace"))
        for name, value in letter.original().headers
    ]


def _as_json(letter: DeadLetterRecord) -> dict[str, Any]:
    value = letter.record.value or b""
    event = json.loads(value) if letter.event is not None else None
    dump = {} if event is not None else {"hex": value[:_DUMPED].hex(), "bytes": len(value)}
    key = (letter.record.key or b"").decode(errors="backslashreplace")
    headers = [{"name": name, "value": text} for name, text in _headers(letter)]
    return {**_facts(letter), "key": key, "headers": headers, "event": event, **dump}


def _print(letter: DeadLetterRecord) -> None:
    for name, fact in _facts(letter).items():
        if fact not in {None, ""}:
            say(f"{name:15} {fact}")
    for name, text in _headers(letter):
        say(f"header          {name}" + ("" if text is None else f": {text}"))
    value = letter.record.value or b""
    if letter.event is not None:
        text = json.dumps(json.loads(value), indent=2, ensure_ascii=False)
        click.echo("\n".join(printable(line) for line in text.splitlines()))
    else:
        for start in range(0, min(len(value), _DUMPED), _ROW):
            say(_dump_line(start, value[start : min(start + _ROW, _DUMPED)]))
        if len(value) > _DUMPED:
            say(f"... {len(value) - _DUMPED} bytes more")
    click.echo("")


def _dump_line(start: int, row: bytes) -> str:
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)  # noqa: PLR2004 - printable ASCII
    return f"{start:08x}  {row.hex(' '):<{3 * _ROW}} {text}"
