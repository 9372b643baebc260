"""Errors for operators: each message says what happened and what to do next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar


class OperatorError(Exception):
    """Something cannot be done. Each problem is a line of the message, for the person who operates the product."""

    exit_code: ClassVar[int] = 1

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class UsageError(OperatorError):
    """The operator's own input is wrong: an option, a setting, a destination document or a keyring."""

    exit_code = 2


class TopicRecreated(OperatorError):  # noqa: N818 - callers catch it as an event
    """A topic was deleted and created again while it was read: the records read so far are the earlier topic's."""


@contextmanager
def without_group() -> Iterator[None]:
    """Raise an `OperatorError` of a task group by itself, without the group around it."""
    try:
        yield
    except BaseExceptionGroup as group:
        errors, rest = group.split(OperatorError)
        if errors is None or rest is not None:
            raise
        raise _first(errors) from group


def _first(group: BaseExceptionGroup[OperatorError]) -> OperatorError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
