"""Fan-out: one signal to all observers, none of which can hurt the pipeline or each other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import final

from pushrail_stream.core.signals import Signal
from pushrail_stream.core.text import safe_message
from pushrail_stream.observe.logging import Logger
from pushrail_stream.ports.pipeline import Observer


@final
class FanOut:
    """Tells every observer; what one raises is logged, at most once per observer, and goes no further."""

    def __init__(self, observers: Sequence[Observer], log: Logger) -> None:
        self._observers = tuple(observers)
        self._log = log
        self._broken: set[int] = set()

    def __call__(self, signal: Signal) -> None:
        """See one signal."""
        for observer in self._observers:
            try:
                observer(signal)
            except Exception as error:  # noqa: BLE001 - an observer's bug must never cost a delivery
                if id(observer) not in self._broken:
                    self._broken.add(id(observer))
                    with suppress(Exception):  # the log may be what is broken
                        self._log.error("observer_failed", observer=repr(observer), error=safe_message(repr(error)))
