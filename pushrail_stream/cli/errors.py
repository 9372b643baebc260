"""Which exceptions are expected, and the exit code of each. Everything else is a bug and keeps its traceback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import click

from pushrail_stream.errors import Failed
from pushrail_stream.ports.pipeline import PublishError
from pushrail_stream.ports.secrets import KeyUnavailable
from pushrail_stream.registry import RegistryError
from pushrail_stream.settings import SettingsError

EXIT_CODES: Final[Mapping[type[Exception], int]] = {
    SettingsError: 2,
    RegistryError: 2,
    Failed: 1,
    PublishError: 1,
    KeyUnavailable: 1,
}


class CommandError(click.ClickException):
    """A command ends with this message, each of its lines one thing that is wrong, and this exit code."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = exit_code


@contextmanager
def expected_errors() -> Iterator[None]:
    """Turn what rooms raise for people into the end of the command."""
    try:
        yield
    except tuple(EXIT_CODES) as error:
        code = next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
        raise CommandError(str(error), code) from error
