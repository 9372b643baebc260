"""Logs: JSON for machines, plain lines for a terminal. Only this room writes them."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any, Final, TextIO, cast, final

import structlog

from pushrail_stream.core.text import safe_message
from pushrail_stream.observe.log_stream import LogStream
from pushrail_stream.observe.sampling import Sampling

Logger = structlog.typing.FilteringBoundLogger
LEVELS: Final = ("debug", "info", "warning", "error")
_TRACE_CHARS: Final = 1_000
"""Longest stack trace of a library's log line, in characters: its end is kept."""


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
    """Let what a library writes to the standard logger ``name``, from warnings on, appear in ``log``, sampled."""
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
        more: dict[str, Any] | None = self._sampling.says(record.name, f"{record.levelno} {record.msg}")
        if more is None:
            return
        if record.exc_info:
            more["exception"] = safe_message("".join(traceback.format_exception(*record.exc_info))[-_TRACE_CHARS:])
        self._log.log(record.levelno, self._source, message=safe_message(record.getMessage()), **more)
