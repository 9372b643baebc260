"""A warning when this process may open too few files for the connections of its destinations."""

from __future__ import annotations

from typing import Final, final

from pushrail_stream.core.signals import RegistryChanged, SettingCaveat, Signal
from pushrail_stream.ports.pipeline import Observer

_FOR_OTHERS: Final = 200
"""Files that a worker needs besides: connections to Kafka, STS and KMS, and of scrapers of its metrics. An estimate, on
the safe side for a cluster of ten brokers."""
_GROWTH: Final = 1.1
"""The warning is repeated when a tenth more files are needed than last time, not with each new destination."""


@final
class OpenFiles:
    """Passes signals on to the other observers, and adds a caveat when there are too many destinations."""

    def __init__(self, observe: Observer, limit: int | None, per_destination: int) -> None:
        """``limit``: open files, None for no limit. ``per_destination``: calls in flight, each on a connection."""
        self._observe = observe
        self._limit = limit
        self._per_destination = per_destination
        self._said = 0

    def __call__(self, signal: Signal) -> None:
        """Pass a signal on, and look at the number of destinations."""
        self._observe(signal)
        if self._limit is None or not isinstance(signal, RegistryChanged):
            return
        needed = signal.good * self._per_destination + _FOR_OTHERS
        if needed <= self._limit:
            self._said = 0
        elif needed >= self._said * _GROWTH:
            self._said = needed
            self._observe(SettingCaveat("ulimit -n", self._sentence(signal.good, needed)))

    def _sentence(self, destinations: int, needed: int) -> str:
        return (
            f"this process may open {self._limit} files, and needs {needed} when every destination is busy: "
            f"{destinations} destinations with {self._per_destination} calls in flight each (delivery.max_in_flight), "
            f"and {_FOR_OTHERS} for the rest. Calls beyond it fail and are tried again: raise the hard limit"
        )
