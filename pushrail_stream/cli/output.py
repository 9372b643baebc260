"""Prints results to stdout, tables for people and JSON lines for programs, and notes to stderr."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused
from pushrail_stream.core.text import format_rfc3339

_PIPE_WIDTH: Final = 10_000
"""Columns of a table that is not on a terminal: a program reads whole lines."""

Cell = str | int | None
"""A cell of a table. People see a bool as yes or no, and None as nothing."""


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


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """A table as wide as the terminal, or as its content where there is none."""
    grid = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        grid.add_row(*(Text(printable(_text(cell)), overflow="fold") for cell in row))
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else _PIPE_WIDTH
    # Rich renders and click writes: a reader that has gone away is then one error, met in one place.
    console = Console(file=io.StringIO(), width=width, force_terminal=is_terminal)
    with console.capture() as capture:
        console.print(grid)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _text(cell: Cell) -> str:
    if cell is None:
        return ""
    return ("no", "yes")[cell] if isinstance(cell, bool) else str(cell)


def printable(text: str) -> str:
    """The text without control characters: customers choose names, which must not steer a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
