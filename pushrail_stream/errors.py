"""Errors that a person reads: each says why something failed and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Failed(Exception):  # noqa: N818 - it is the sentence a person reads
    """The worker cannot start or go on. The message tells people why and what to do."""


class TopicRecreated(Failed):
    """A topic was deleted and created again while it was read: the records read so far are the earlier topic's."""


@contextmanager
def failing_alone() -> Iterator[None]:
    """Let a `Failed` out of the group that a task group puts it in."""
    try:
        yield
    except BaseExceptionGroup as group:
        failed, rest = group.split(Failed)
        if failed is None or rest is not None:
            raise
        raise _first(failed) from group


def _first(group: BaseExceptionGroup[Failed]) -> Failed:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, Failed):
        raise TypeError("a group split by Failed holds only that")
    return error
