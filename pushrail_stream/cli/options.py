"""Options and arguments that commands share, and the options of every command."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeVar, get_args

import click

from pushrail_stream.cli.output import Cell, Column, csv_table, emit, json_rows, note, say, table
from pushrail_stream.cli.progress import ProgressBar
from pushrail_stream.core.record import Origin, parse_origin
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.operations.times import parse_moment
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.source import LoadedSettings, read_settings

Output = Literal["table", "wide", "json", "csv"]
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Options:
    """The values of the options that every command has."""

    config: Path | None = None
    output: Output = "table"
    log_level: str = "info"

    @property
    def json(self) -> bool:
        """Whether the result is for programs, as JSON."""
        return self.output == "json"

    def load(self) -> LoadedSettings:
        """The settings with their origins. Raises `UsageError`."""
        return read_settings(self.config)

    @property
    def settings(self) -> Settings:
        """The settings, read now. Raises `UsageError`."""
        return self.load().settings

    def answer(self, value: Any, *lines: str) -> None:
        """Print one result: a JSON value for programs, or lines for people."""
        if self.json:
            emit(value)
            return
        for line in lines:
            say(line)

    def table(
        self,
        columns: Sequence[Column | str],
        rows: Iterable[Sequence[Cell]],
        values: Iterable[Any] | None = None,
        *,
        live: bool = False,
    ) -> None:
        """Print rows as --output says: a table, CSV, or each row's JSON value, by default an object of its cells.

        With ``live`` each row is printed when it comes.
        """
        if self.output == "csv":
            csv_table(columns, rows)
        elif self.json:
            for value in json_rows(columns, rows) if values is None else values:
                emit(value)
        else:
            table(columns, rows, wide=self.output == "wide", live=live)

    def say(self, line: str) -> None:
        """A line for people beside a table: on stderr with CSV, and none with JSON."""
        if self.output == "csv":
            note(line)
        elif not self.json:
            say(line)

    def progress(self) -> ProgressBar:
        """A view of the running operation; JSON is for programs, so there is no bar then."""
        return ProgressBar(quiet=self.json)


def yes_option(action: str) -> Callable[[F], F]:
    """An option that answers the question of `confirm`."""
    return click.option("--yes", is_flag=True, help=f"Do not ask before the command begins to {action}.")


def confirm(question: str, *, is_answered: bool) -> None:
    """Ask a person on a terminal; without one, or when it is answered already, go on.

    Raises `OperatorError` for a no.
    """
    is_person = sys.stdin is not None and sys.stdin.isatty()
    if is_person and not is_answered and not click.confirm(question, err=True):
        raise OperatorError("nothing is done: the answer was no")


def parse_position(text: str) -> Origin:
    """The argument POSITION of a command. Raises `UsageError`."""
    origin = parse_origin(text)
    if origin is None:
        raise UsageError("POSITION: must be topic/partition/offset")
    return origin


class _Moment(click.ParamType):  # type: ignore[type-arg]  # generic for type checkers alone
    """Epoch milliseconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        epoch_ms = parse_moment(value)
        if epoch_ms is None:
            self.fail("must be a time such as 2026-11-24T09:00:00Z, or how long ago: 90s, 15m, 2h, 7d", param, ctx)
        return epoch_ms


FROM_THEN_ON: Final = "at this time or later: RFC 3339, or how long ago (2h, 7d)."
"""The end of the help about an option for a period's begin."""


def moment_option(name: str, help_: str, *, required: bool = False) -> Callable[[F], F]:
    """An option for a time; the command gets it in epoch milliseconds."""
    argument = f"{name.replace('-', '_')}_ms"
    return click.option(f"--{name}", argument, type=_Moment(), metavar="TIME", required=required, help=help_)


_CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), metavar="PATH", help="Read the settings from this file (YAML)."
)
_OUTPUT = click.option(
    "--output", type=click.Choice(get_args(Output)),
    help="Print tables for people (wide: all columns in full), JSON, one value a line, or CSV. [default: table]",
)  # fmt: skip
_JSON = click.option("--json", is_flag=True, help="Short for --output json.")
_LOG_LEVEL = click.option(
    "--log-level", type=click.Choice(LOG_LEVELS), default="info", show_default=True,
    help="Log messages of this level and above to stderr.",
)  # fmt: skip


def common_options(command: Callable[Concatenate[Options, P], T]) -> Callable[P, T]:
    """Give a command the common options, as its first argument.

    Stands right above the function, below ``@group.command()`` and beside its own ``@click.option``s.
    """

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> T:
        output, is_json = kwargs.pop("output"), kwargs.pop("json")
        if is_json and output not in {None, "json"}:
            raise UsageError(f"--json: cannot be used with --output {output}")
        options = Options(kwargs.pop("config"), "json" if is_json else output or "table", kwargs.pop("log_level"))
        return command(options, *args, **kwargs)

    return _CONFIG(_OUTPUT(_JSON(_LOG_LEVEL(wrapper))))
