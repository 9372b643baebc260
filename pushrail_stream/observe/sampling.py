"""Sampling: the same line is said once in a while, and then how many like it were left out."""

from __future__ import annotations

import time
from typing import Final, NamedTuple, TypeVar, final

_REPEAT_SECS: Final = 30.0
_MOST: Final = 1_000
"""Lines told apart: messages may hold anything, and a thousand destinations may fail at once."""


class _Said(NamedTuple):
    at: float
    left_out: int


_Key = TypeVar("_Key")
_NEVER: Final = _Said(float("-inf"), 0)


@final
class Sampling:
    """Which lines are worth saying. What there are too many of to be told apart shares one line per event."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], _Said] = {}
        """By event and key, in the order they were last said."""
        self._others: dict[str, _Said] = {}
        """By event: what there was no room for, and what was left out of those that had to make room."""

    def says(self, event: str, key: str) -> dict[str, int] | None:
        """Whether to say this line: None when not, else what to add to it.

        That is ``repeated``, how many of the same were left out since the last one, or ``others_left_out``, how many
        different ones of this event.
        """
        now, exact = time.monotonic(), (event, key)
        if exact in self._said or self._has_room(now):
            return _say(self._said, exact, now, "repeated")
        return _say(self._others, event, now, "others_left_out")

    def _has_room(self, now: float) -> bool:
        while len(self._said) >= _MOST:
            oldest = next(iter(self._said))
            if now - self._said[oldest].at < _REPEAT_SECS:
                return False
            left_out = self._said.pop(oldest).left_out
            last = self._others.get(oldest[0], _NEVER)
            self._others[oldest[0]] = last._replace(left_out=last.left_out + left_out)
        return True


def _say(said: dict[_Key, _Said], key: _Key, now: float, left_out: str) -> dict[str, int] | None:
    last = said.get(key, _NEVER)
    if now - last.at < _REPEAT_SECS:
        said[key] = last._replace(left_out=last.left_out + 1)
        return None
    said.pop(key, None)
    said[key] = _Said(now, 0)
    return {left_out: last.left_out} if last.left_out else {}
