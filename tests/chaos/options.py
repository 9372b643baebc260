"""The options of a chaos run, and the length of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tests.chaos.commits import KEEP_COMMITS
from tests.chaos.faults import DENIALS
from tests.chaos.world import SESSION_SECS

_KILL_SECS: Final = 10.0
_RESTART_SECS: Final = 25.0
_EDGE_SECS: Final = DENIALS[0].resumed_at + 10.0
"""Seconds without disturbances at the start, and at the end."""


@dataclass(frozen=True)
class Options:
    """The amount of chaos."""

    seed: int
    events: int = 100_000
    kills: int = 6
    broker_restarts: int = 1
    limit_secs: float | None = None
    """The whole run fails when it takes longer; None: three times as long as events are produced, and five minutes."""
    customers: int = 200
    per_second: float = 1_500.0
    """Events are produced no faster, whatever the machine could do."""

    group_protocol: str = "classic"
    """``classic`` or ``consumer`` (KIP-848), as the setting."""

    @property
    def produce_secs(self) -> float:
        """Seconds of producing and of disturbances, long enough that each disturbance takes effect by itself."""
        felt = _EDGE_SECS + self.kills * _KILL_SECS + self.broker_restarts * _RESTART_SECS
        return max(felt, self.events / self.per_second)

    @property
    def broker_properties(self) -> Mapping[str, str]:
        """The settings that the broker needs."""
        return KEEP_COMMITS | {"group.consumer.session.timeout.ms": str(int(SESSION_SECS * 1000))}

    @property
    def deadline_secs(self) -> float:
        """When the run is given up."""
        return self.limit_secs if self.limit_secs is not None else 3 * self.produce_secs + 300.0
