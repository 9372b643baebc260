"""What a chaos run is asked for, and how long its parts last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_KILL_SECS: Final = 10.0
_RESTART_SECS: Final = 25.0
_EDGE_SECS: Final = 40.0
"""Start-up, and a stretch without disturbances at the end."""


@dataclass(frozen=True)
class Options:
    """How much chaos."""

    seed: int
    events: int = 100_000
    kills: int = 6
    broker_restarts: int = 1
    limit_secs: float | None = None
    """The whole run fails when it takes longer; None: three times as long as events are produced, and five minutes."""
    customers: int = 200
    per_second: float = 1_500.0
    """Events are produced no faster, whatever the machine could do."""

    disturbed_secs: float | None = None
    """How long things go wrong at least; None: as long as so many disturbances need to be felt one by one."""

    @property
    def produce_secs(self) -> float:
        """How long events are produced and things go wrong."""
        usual = _EDGE_SECS + self.kills * _KILL_SECS + self.broker_restarts * _RESTART_SECS
        return max(usual if self.disturbed_secs is None else self.disturbed_secs, self.events / self.per_second)

    @property
    def deadline_secs(self) -> float:
        """When the run is given up."""
        return self.limit_secs if self.limit_secs is not None else 3 * self.produce_secs + 300.0
