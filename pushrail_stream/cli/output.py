"""Prints results to stdout, tables for people and values for programs, and notes to stderr.

A table's columns are names or `Column`s. A name is enough for identifiers and numbers, which are never cut or broken::

    options.table(
        (Column("at", "time"), Column("status", "status"), "id", Column("key", drop=1), Column("why", "prose")),
        ((one.at_ms, one.status, one.destination, one.key, one.why) for one in found),
    )

The cells of a "time" are epoch milliseconds or RFC 3339. A "status" is coloured on a terminal. Where the terminal is
too narrow, columns without content go first, then those with ``drop``, 1 before 2. At last "prose" is shortened, and
"text", which the reader needs whole, goes on in further lines.
With ``live=True`` each row is printed when it comes. `Options.say` prints a line below the table.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

import click

from pushrail_stream.core.text import format_rfc3339, parse_rfc3339
from pushrail_stream.operations.times import now_ms

if TYPE_CHECKING:
    from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused

_GAP: Final = 2
"""Blanks between two columns."""
_LEAST_PROSE: Final = 16
"""Width that shortened prose keeps, in characters: two or three words."""
_COLOURS: Final = {
    **dict.fromkeys(("delivered", "ok"), "green"),
    **dict.fromkeys(("retrying", "slowed", "warning"), "yellow"),
    **dict.fromkeys(("dead_lettered", "blocked", "suspended", "gone", "failed", "missing", "lost", "problem"), "red"),
}
"""Colour of each status that asks for the reader's attention, or tells that none is needed."""

Cell = str | int | None
"""A cell of a table. People see a bool as yes or no, and None as nothing."""


class Column(NamedTuple):
    """A column of a table, as the head of this module explains it."""

    name: str
    kind: Literal["plain", "time", "status", "prose", "text"] = "plain"
    drop: int = 0
    """Place in the order in which columns leave a table that is too wide, from 1 on; 0: it stays."""


def to_the_end() -> AbstractContextManager[object]:
    """Keep the exit code of a verdict that follows the output, even when its reader leaves early (``| head``)."""
    return suppress(BrokenPipeError)


def emit(value: Any) -> None:
    """One JSON value on a line of its own."""
    click.echo(_compact(value))


def emit_with_lists(facts: Mapping[str, Any], lists: Mapping[str, Iterable[Any]]) -> None:
    """One JSON object on a line of its own: first the facts, then lists that are written item by item."""
    click.echo(_compact(facts)[:-1], nl=False)
    for name, items in lists.items():
        click.echo(f",{_compact(name)}:[", nl=False)
        for number, item in enumerate(items):
            click.echo((("," if number else "") + _compact(item)), nl=False)
        click.echo("]", nl=False)
    click.echo("}")


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def document(value: Any) -> None:
    """One JSON value over several lines, for people; escaped where it could steer a terminal."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    is_safe = all(line.isprintable() for line in text.splitlines())
    click.echo(text if is_safe else json.dumps(value, indent=2))


def say(line: str) -> None:
    """A line of the result, for people."""
    click.echo(printable(line))


def note(line: str) -> None:
    """A line beside the result."""
    click.echo(printable(line), err=True)


def as_json(problem: DocumentRefused | DocumentCaveat) -> dict[str, str]:
    """A document's problem for programs."""
    return dict(zip(("file", "field", "problem"), problem, strict=True))


def note_refused(refusals: Sequence[DocumentRefused], max_: int = 10) -> None:
    """Name refused documents on stderr, at most ``max_`` of them."""
    for refusal in refusals[:max_]:
        note(f"refused: {refusal}")
    if len(refusals) > max_:
        note(f"refused: {len(refusals) - max_} documents more (`destinations validate`)")


def format_time(epoch_ms: int | None) -> str:
    """A moment for people and programs; empty for none."""
    return "" if epoch_ms is None else format_rfc3339(epoch_ms)


def short_time(epoch_ms: int) -> str:
    """A moment for a table, in UTC: ``14:03:22`` today, else ``11-27 14:03``, with the year where it is another one."""
    moment, now = format_rfc3339(epoch_ms), format_rfc3339(now_ms())
    if moment[:10] == now[:10]:
        return moment[11:19]
    return f"{moment[5:10] if moment[:4] == now[:4] else moment[:10]} {moment[11:16]}"


def table(
    columns: Sequence[Column | str], rows: Iterable[Sequence[Cell]], *, wide: bool = False, live: bool = False
) -> None:
    """Print a table that fits the terminal; as wide as its content with ``wide``, or where there is no terminal.

    With ``live`` each row is printed when it comes. A column then becomes as wide as its widest cell until now.
    """
    heads = _heads(columns)
    lines = ([_text(head, cell, full=wide) for head, cell in zip(heads, row, strict=True)] for row in rows)
    width = None if wide else _terminal_width()
    if live:
        _print_live(heads, lines, width)
        return
    found = list(lines)
    layout = _Layout.fitting(heads, found, width)
    for shown in layout.lines(found):
        click.echo(shown)
    layout.note_hidden(found)


def table_lines(columns: Sequence[Column | str], rows: Iterable[Sequence[Cell]]) -> list[str]:
    """The lines of a table that fits the terminal, for a view that is drawn again and again."""
    heads = _heads(columns)
    found = [[_text(head, cell, full=False) for head, cell in zip(heads, row, strict=True)] for row in rows]
    return list(_Layout.fitting(heads, found, _terminal_width()).lines(found))


def _print_live(heads: Sequence[Column], lines: Iterable[list[str]], width: int | None) -> None:
    longest = ["dead_lettered" if head.kind == "status" else "" for head in heads]
    shown: list[int] = []
    for line in lines:
        longest = [max(pair, key=_width) for pair in zip(longest, line, strict=True)]
        layout = _Layout.fitting(heads, [longest], width)
        is_new = shown != list(layout.widths)
        shown = list(layout.widths)
        for text in layout.lines([line]) if is_new else layout.row(line):
            click.echo(text)


def csv_table(columns: Sequence[Column | str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print a table for spreadsheets: a line of names, then all columns of each row, times in full."""
    heads = _heads(columns)
    _print_csv([head.name for head in heads])
    for row in rows:
        _print_csv([_text(head, cell, full=True) for head, cell in zip(heads, row, strict=True)])


def _print_csv(cells: Sequence[str]) -> None:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    click.echo(line.getvalue())


def json_rows(columns: Sequence[Column | str], rows: Iterable[Sequence[Cell]]) -> Iterable[dict[str, Cell]]:
    """Each row as an object of its cells by their columns' names in camel case, times in full."""
    heads = _heads(columns)
    for row in rows:
        yield {_key(head): _value(head, cell) for head, cell in zip(heads, row, strict=True)}


def _heads(columns: Sequence[Column | str]) -> list[Column]:
    return [Column(column) if isinstance(column, str) else column for column in columns]


def _key(head: Column) -> str:
    """The column's name as in other JSON: ``nextDue`` for the column "next due"."""
    first, *others = head.name.split(" ")
    return first + "".join(map(str.title, others))


def _value(head: Column, cell: Cell) -> Cell:
    return format_time(cell) if head.kind == "time" and isinstance(cell, int) else cell


def _text(head: Column, cell: Cell, *, full: bool) -> str:
    if cell is None:
        return ""
    if head.kind == "time" and not full:
        epoch_ms = parse_rfc3339(cell) if isinstance(cell, str) else cell
        return printable(str(cell)) if epoch_ms is None else short_time(epoch_ms)
    cell = _value(head, cell)
    return ("no", "yes")[cell] if isinstance(cell, bool) else printable(str(cell))


def _width(text: str) -> int:
    """The text's columns on a terminal."""
    from rich.cells import cell_len

    return cell_len(text)


def _cut(text: str, width: int) -> str:
    from rich.cells import set_cell_size

    return set_cell_size(text, width)


def _terminal_width() -> int | None:
    """The terminal's width, or COLUMNS on a terminal; None in a pipe, whose reader needs whole lines.

    COLUMNS alone does not tell that a person reads: GNU readline sets it in every program that loads it.
    """
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    from shutil import get_terminal_size

    return get_terminal_size().columns


def shortened(line: str, max_: int) -> str:
    """The line as it is in a pipe; on a terminal at most ``max_`` characters, and how many more there are."""
    more = len(line) - max_
    return line if more <= 0 or _terminal_width() is None else f"{line[:max_]}... ({more:,} characters more: --json)"


def _is_plain() -> bool:
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def _bold(_: Column, text: str) -> str:
    return text if _is_plain() else click.style(text, bold=True)


def _coloured(head: Column, text: str) -> str:
    colour = _COLOURS.get(text.partition(" ")[0]) if head.kind == "status" else None
    return text if colour is None or _is_plain() else click.style(text, fg=colour)


@dataclass(frozen=True, slots=True)
class _Layout:
    """The columns that a table shows."""

    heads: Sequence[Column]
    widths: dict[int, int]
    """Index to width of each column that is shown."""

    @classmethod
    def fitting(cls, heads: Sequence[Column], lines: Sequence[Sequence[str]], width: int | None) -> Self:
        """The layout for a terminal of this width; None is no limit."""
        widths = {
            i: max(_width(text) for text in (head.name, *(line[i] for line in lines))) for i, head in enumerate(heads)
        }

        def excess() -> int:
            return 0 if width is None else max(sum(widths.values()) + _GAP * (len(widths) - 1) - width, 0)

        empty = [i for i in widths if lines and not any(line[i] for line in lines)]
        spare = sorted((i for i in widths if heads[i].drop), key=lambda i: heads[i].drop)
        for i in (*empty, *spare):
            if excess():
                widths.pop(i, None)
        for i in sorted((i for i in widths if heads[i].kind in {"prose", "text"}), key=lambda i: -widths[i]):
            widths[i] -= min(excess(), max(widths[i] - _LEAST_PROSE, 0))
        return cls(heads, widths)

    def lines(self, rows: Iterable[Sequence[str]]) -> Iterator[str]:
        """The lines of the names and of all rows."""
        yield from self._styled([head.name for head in self.heads], _bold)
        for row in rows:
            yield from self.row(row)

    def row(self, row: Sequence[str]) -> Iterator[str]:
        """The lines of a row of texts."""
        yield from self._styled(row, _coloured)

    def _styled(self, row: Sequence[str], style: Callable[[Column, str], str]) -> Iterator[str]:
        cells = {i: _lines(self.heads[i], row[i], width) for i, width in self.widths.items()}
        for line in zip_longest(*cells.values(), fillvalue=""):
            shown = ""
            blanks = 0
            for (i, width), text in zip(self.widths.items(), line, strict=True):
                if text:
                    shown += " " * blanks + style(self.heads[i], text)
                    blanks = 0
                blanks += max(width - _width(text), 0) + _GAP
            yield shown

    def note_hidden(self, lines: Sequence[Sequence[str]]) -> None:
        """Name on stderr the columns that have content and are not shown."""
        hidden = [
            head.name for i, head in enumerate(self.heads) if i not in self.widths and any(line[i] for line in lines)
        ]
        if hidden:
            note(f"too narrow for: {', '.join(hidden)} (--output wide shows them)")


def _lines(head: Column, text: str, width: int) -> Sequence[str]:
    """The lines of a cell. A word is never broken, so a line may be wider than its column."""
    if head.kind == "prose" and _width(text) > width:
        return [_cut(text, width - 1).rstrip() + "…"]
    if head.kind != "text" or _width(text) <= width:
        return [text]
    lines = [""]
    for word in text.split():
        if lines[-1] and _width(lines[-1]) + 1 + _width(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".lstrip()
    return lines


def printable(text: str) -> str:
    """The text without control characters: customers choose names, which must not steer a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
