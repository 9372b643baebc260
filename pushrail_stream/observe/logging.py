"""Logs: JSON for machines, plain lines for a terminal. Only this room writes them."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from typing import Any, Final, NamedTuple, TextIO, TypeVar, cast, final

import structlog

from pushrail_stream.core.text import safe_message
from pushrail_stream.observe.log_stream import LogStream

Logger = structlog.typing.FilteringBoundLogger
_TRACE_CHARS: Final = 1_000
"""Longest stack trace in a library's log line, in characters: its end is kept."""
_REPEAT_SECS: Final = 30.0
"""Time between two equal lines."""
_MAX_LINES: Final = 1_000
"""Lines told apart. A bound is needed: messages may hold any text, and a thousand destinations may fail at once."""


def open_log(level: str, *, stream: TextIO | None = None, as_json: bool = False, **context: Any) -> Logger:
    """A logger to ``stream`` (standard error): readable on a terminal, one JSON object a line anywhere else.

    A line that cannot be written is counted (`LogStream.lost_lines`); logging raises nothing.
    """
    out: TextIO | None = stream or sys.stderr  # None when the process was started without one
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if out is not None and not as_json and out.isatty()
        else structlog.processors.JSONRenderer()
    )
    log: Logger = structlog.wrap_logger(
        # Line and line end in one write, because several workers may share the stream.
        structlog.WriteLogger(cast("TextIO", LogStream(out))),
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
    )
    return log.bind(**context)


def forward_log(name: str, log: Logger) -> None:
    """Write a library's lines to the standard logger ``name``, from warnings on, to ``log`` instead, sampled."""
    logger = logging.getLogger(name)
    logger.handlers, logger.propagate = [_Forward(logging.WARNING, log, name)], False


@final
class _Forward(logging.Handler):
    def __init__(self, level: int, log: Logger, name: str) -> None:
        super().__init__(level)
        self._log = log
        self._source = name
        self._sampling = Sampling()

    def emit(self, record: logging.LogRecord) -> None:
        more: dict[str, Any] | None = self._sampling.sample(record.name, f"{record.levelno} {record.msg}")
        if more is None:
            return
        if record.exc_info:
            more["exception"] = safe_message("".join(traceback.format_exception(*record.exc_info))[-_TRACE_CHARS:])
        self._log.log(record.levelno, self._source, message=safe_message(record.getMessage()), **more)


class _Written(NamedTuple):
    at: float
    left_out: int


_Key = TypeVar("_Key")
_NEVER: Final = _Written(float("-inf"), 0)


@final
class Sampling:
    """Selects the lines to write: equal lines only now and then, and then with the number of those left out.

    Lines beyond those that can be told apart share one line per event.
    """

    def __init__(self) -> None:
        self._exact: dict[tuple[str, str], _Written] = {}
        """By event and key, in the order in which they were last written."""
        self._others: dict[str, _Written] = {}
        """By event: the lines for which there was no room, and those left out of lines that had to make room."""

    def sample(self, event: str, key: str) -> dict[str, int] | None:
        """The fields to add to this line: None if it is not written.

        They are ``repeated``, how many of the same were left out since the last one, or ``others_left_out``, how many
        different ones of this event.
        """
        now, exact = time.monotonic(), (event, key)
        if exact in self._exact or self._has_room(now):
            return _sample(self._exact, exact, now, "repeated")
        return _sample(self._others, event, now, "others_left_out")

    def _has_room(self, now: float) -> bool:
        while len(self._exact) >= _MAX_LINES:
            oldest = next(iter(self._exact))
            if now - self._exact[oldest].at < _REPEAT_SECS:
                return False
            left_out = self._exact.pop(oldest).left_out
            last = self._others.get(oldest[0], _NEVER)
            self._others[oldest[0]] = last._replace(left_out=last.left_out + left_out)
        return True


def _sample(written: dict[_Key, _Written], key: _Key, now: float, left_out: str) -> dict[str, int] | None:
    last = written.get(key, _NEVER)
    if now - last.at < _REPEAT_SECS:
        written[key] = last._replace(left_out=last.left_out + 1)
        return None
    written.pop(key, None)
    written[key] = _Written(now, 0)
    return {left_out: last.left_out} if last.left_out else {}
