"""Observers around the others: one tells a signal to all of them, one adds a warning about open files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final, final

from pushrail_stream.core.signals import RegistryChanged, SettingCaveat, Signal
from pushrail_stream.core.text import safe_message
from pushrail_stream.core.window import USUAL
from pushrail_stream.core.worker_calls import MAX_CALLS
from pushrail_stream.observe.logging import Logger
from pushrail_stream.ports.pipeline import Observer

_OTHER_FILES: Final = 200
"""Files that a worker needs besides: connections to Kafka, STS and KMS, and of scrapers of its metrics. An estimate, on
the safe side for a cluster of ten brokers."""
_GROWTH: Final = 1.1
"""The warning is repeated when a tenth more files are needed than last time, not with each new destination."""


@final
class FanOut:
    """Tells every observer. An exception of one is logged, at most once per observer, and goes no further."""

    def __init__(self, observers: Sequence[Observer], log: Logger) -> None:
        self._observers = tuple(observers)
        self._log = log
        self._broken: set[int] = set()

    def __call__(self, signal: Signal) -> None:
        for observer in self._observers:
            try:
                observer(signal)
            except Exception as error:  # noqa: BLE001 - an observer's bug must never cost a delivery
                if id(observer) not in self._broken:
                    self._broken.add(id(observer))
                    with suppress(Exception):  # the log may be the broken one
                        self._log.error("observer_failed", observer=repr(observer), error=safe_message(repr(error)))


@final
class OpenFiles:
    """Passes signals on, and adds a caveat when the process may open too few files for its destinations."""

    def __init__(self, observe: Observer, limit: int | None, max_in_flight: int) -> None:
        """``limit``: open files, None for no limit. ``max_in_flight``: calls to one bus, each on a connection."""
        self._observe = observe
        self._limit = limit
        self._per_destination = min(max_in_flight, USUAL)
        self._shared = MAX_CALLS if max_in_flight > USUAL else 0
        """Calls beyond the usual number, of all destinations together."""
        self._warned_at = 0

    def __call__(self, signal: Signal) -> None:
        self._observe(signal)
        if self._limit is None or not isinstance(signal, RegistryChanged):
            return
        needed = signal.good * self._per_destination + self._shared + _OTHER_FILES
        if needed <= self._limit:
            self._warned_at = 0
        elif needed >= self._warned_at * _GROWTH:
            self._warned_at = needed
            self._observe(SettingCaveat("ulimit -n", self._problem(signal.good, needed)))

    def _problem(self, destinations: int, needed: int) -> str:
        return (
            f"this process may open {self._limit} files, and needs {needed} when every destination is busy: "
            f"{destinations} destinations with {self._per_destination} calls in flight each, {self._shared} calls "
            f"beside these (delivery.max_in_flight), and {_OTHER_FILES} for the rest. Calls beyond it fail and are "
            "tried again: raise the hard limit"
        )
