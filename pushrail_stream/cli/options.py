"""Options and arguments that commands share, and the options of every command."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Final, Literal, ParamSpec, TypeVar, get_args

import click

from pushrail_stream.cli.output import Cell, Column, csv_table, document, emit, format_time, json_rows, note, say, table
from pushrail_stream.cli.progress import ProgressBar
from pushrail_stream.core.record import Origin, parse_origin
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.operations.times import MOMENT_FORMS, now_ms, parse_moment

if TYPE_CHECKING:
    from pushrail_stream.settings.model import Settings
    from pushrail_stream.settings.source import LoadedSettings

Output = Literal["table", "wide", "json", "csv"]
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any] | click.Command)


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
        from pushrail_stream.settings.source import read_settings

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

    def document(self, value: Any) -> None:
        """Print one JSON value: on one line for programs, over several for people."""
        self.refuse_csv()
        (emit if self.json else document)(value)

    def refuse_csv(self) -> None:
        """Raise `UsageError` when a command that has no table is to print CSV."""
        if self.output == "csv":
            raise UsageError("--output: csv: this command has no table")

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


def can_ask() -> bool:
    """Whether a person sits at a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


def confirm(question: str, *, is_answered: bool) -> None:
    """Ask a person on a terminal; without one, or when it is answered already, go on.

    Raises `OperatorError` for a no.
    """
    if can_ask() and not is_answered and not ask(question):
        raise OperatorError("nothing is done: the answer was no")


def ask(question: str) -> bool:
    """Ask a person on a terminal until the answer is yes or no; no answer is a no."""
    while True:
        answer: str = click.prompt(f"{question} [y/N]", default="", show_default=False, err=True)
        word = answer.strip().lower()
        if word in {"", "n", "no"}:
            return False
        if word in {"y", "yes"}:
            return True
        note("error: the answer must be y or n")


def parse_position(text: str) -> Origin:
    """The argument POSITION of a command. Raises `UsageError`."""
    origin = parse_origin(text)
    if origin is None:
        raise UsageError("POSITION: must be topic/partition/offset")
    return origin


class FiniteRange(click.FloatRange):
    """A range of numbers. To click, nan is in every range, and infinity in one without an end."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Raises `click.BadParameter`."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number", param, ctx)
        return number


class _Moment(click.ParamType):  # type: ignore[type-arg]  # generic for type checkers alone
    """Epoch milliseconds."""

    name = "time"

    def __init__(self, *, is_past: bool) -> None:
        """``is_past``: refuse times to come."""
        self._is_past = is_past

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        epoch_ms, now = parse_moment(value), now_ms()
        if epoch_ms is None:
            self.fail(f"must be {MOMENT_FORMS}, in UTC where no offset stands", param, ctx)
        if self._is_past and epoch_ms > now:
            self.fail(f"{format_time(epoch_ms)} is yet to come: it is {format_time(now)}", param, ctx)
        return epoch_ms


FROM_THEN_ON: Final = "at this time or later (UTC): 2h, 7d, 'yesterday 14:00', 2026-11-27 or RFC 3339."
"""The end of the help about an option for a period's beginning."""


def moment_option(name: str, help_: str, *, required: bool = False) -> Callable[[F], F]:
    """An option for a time; the command gets it in epoch milliseconds."""
    argument = f"{name.replace('-', '_')}_ms"
    return click.option(
        f"--{name}",
        argument,
        type=_Moment(is_past=name.endswith("since")),
        metavar="TIME",
        required=required,
        help=help_,
    )


CONFIG_KEY: Final = "pushrail_stream.config"
_OUTPUT_KEY: Final = "pushrail_stream.output"
_LOG_LEVEL_KEY: Final = "pushrail_stream.log_level"


def _keep(key: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback that keeps an option's value in the context that a command shares with its groups."""

    def keep(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is not None:
            context.meta[key] = value

    return keep


def _keep_output(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None and context.meta.setdefault(_OUTPUT_KEY, value) != value:
        raise UsageError(f"--output: cannot be {context.meta[_OUTPUT_KEY]} and {value} at once")


_COMMON: Final = (
    click.option(
        "--config", type=click.Path(path_type=Path), metavar="PATH", expose_value=False, callback=_keep(CONFIG_KEY),
        help="Read the settings from this file (YAML).",
    ),
    click.option(
        "--output", type=click.Choice(get_args(Output)), expose_value=False, callback=_keep_output,
        help="Print tables that fit the terminal (table) or that show everything (wide), JSON with one value a line, "
        "or CSV. [default: table]",
    ),
    click.option(
        "--json", flag_value="json", default=None, expose_value=False, callback=_keep_output,
        help="Short for --output json.",
    ),
    click.option(
        "--log-level", type=click.Choice(LOG_LEVELS), expose_value=False, callback=_keep(_LOG_LEVEL_KEY),
        help="Log messages of this level and above to stderr. [default: info]",
    ),
)  # fmt: skip
"""They may stand anywhere: before the command, between a group and its command, or after. The last one counts."""


def accept_common_options(command: F) -> F:
    """Let a group, or a command, take the common options."""
    for option in reversed(_COMMON):
        command = option(command)
    return command


def audited(command: Callable[Concatenate[Options, P], T]) -> Callable[Concatenate[Options, P], T]:
    """Let a command that changes something write an audit record, with ``audit.enabled``.

    Stands right below `common_options`. A dry run writes none.
    """

    @functools.wraps(command)
    def wrapper(options: Options, /, *args: P.args, **kwargs: P.kwargs) -> T:
        from pushrail_stream.operations.audit import audit_trail

        path = click.get_current_context().command_path.partition(" ")[2]
        is_dry_run = kwargs.get("dry_run") is True
        makes_topic = path == "topics create"
        with audit_trail(options.settings, path, kwargs, is_dry_run=is_dry_run, makes_topic=makes_topic):
            return command(options, *args, **kwargs)

    wrapper.__dict__["is_audited"] = True  # for a test that no command is forgotten
    return wrapper


def common_options(command: Callable[Concatenate[Options, P], T]) -> Callable[P, T]:
    """Give a command the common options, as its first argument.

    Stands right above the function, below ``@group.command()`` and beside its own ``@click.option``s.
    """

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> T:
        meta = click.get_current_context().meta
        options = Options(meta.get(CONFIG_KEY), meta.get(_OUTPUT_KEY, "table"), meta.get(_LOG_LEVEL_KEY, "info"))
        return command(options, *args, **kwargs)

    return accept_common_options(wrapper)
