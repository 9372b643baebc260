"""The options every command takes after its name: ``--config``, ``--json`` and ``--log-level``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import click

from pushrail_stream.errors import UsageError
from pushrail_stream.settings import LoadedSettings, Settings, read_settings
from pushrail_stream.settings.values import Rule

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller chose for any command."""

    config: Path | None = None
    json: bool = False
    log_level: str = "info"

    def load(self) -> LoadedSettings:
        """The settings with their origins. Raises `UsageError`."""
        return read_settings(self.config)

    @property
    def settings(self) -> Settings:
        """The settings, read now. Raises `UsageError`."""
        return self.load().settings


def check_options(*options: tuple[str, Rule, str | None]) -> None:
    """Check each option's value by its rule; None breaks none. Raises `UsageError` with every one that is broken."""
    problems = []
    for option, rule, value in options:
        try:
            if value is not None:
                rule.check(value)
        except ValueError as error:
            problems.append(f"{option}: {error}")
    if problems:
        raise UsageError(*problems)


_CONFIG = click.option("--config", type=click.Path(path_type=Path), metavar="PATH", help="Settings file (YAML).")
_JSON = click.option("--json", is_flag=True, help="Print JSON, one value a line, for programs.")
_LOG_LEVEL = click.option(
    "--log-level", type=click.Choice(LOG_LEVELS), default="info", show_default=True, help="What is logged to stderr."
)


def common_options(command: Callable[Concatenate[Options, P], T]) -> Callable[P, T]:
    """Give a command the common options, as its first argument.

    Stands right above the function, below ``@group.command()`` and beside its own ``@click.option``s.
    """

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> T:
        options = Options(kwargs.pop("config"), kwargs.pop("json"), kwargs.pop("log_level"))
        return command(options, *args, **kwargs)

    return _CONFIG(_JSON(_LOG_LEVEL(wrapper)))
