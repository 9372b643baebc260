"""How destinations stand, by the delivery log: what it says of each since its last delivery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, final

from pushrail_stream.core.outcome import BUS_NOT_FOUND
from pushrail_stream.history.attempts import Attempt

State = Literal["delivering", "retrying", "slowed", "blocked", "suspended", "gone"]
_WORSE: Final = ("delivering", "retrying", "slowed", "blocked", "suspended", "gone")
"""Until something is delivered a destination stands as badly as it has stood."""


class Standing(NamedTuple):
    """How one destination stands."""

    state: State
    code: str | None
    """Of the attempt that says so, AWS's or ours."""
    since_ms: int
    """Epoch milliseconds of the first attempt that says so."""


@final
class Standings:
    """Destinations by what became of their deliveries, taken in order of time."""

    def __init__(self) -> None:
        self._known: dict[str, Standing] = {}

    def take(self, attempt: Attempt) -> None:
        """Learn from one attempt. Of an event's own fault, and of what was skipped, nothing is learnt."""
        state, destination = _state(attempt.said), attempt.get("destinationId")
        if state is None or not isinstance(destination, str):
            return
        known = self._known.get(destination)
        if known is None or state == "delivering" or _WORSE.index(state) > _WORSE.index(known.state):
            since_ms = known.since_ms if known is not None and known.state == state else attempt.at_ms
            self._known[destination] = Standing(state, attempt.get("code"), since_ms)

    def of(self, destination_id: str) -> Standing | None:
        """None when nothing was tried."""
        return self._known.get(destination_id)


def _state(said: Mapping[str, Any]) -> State | None:
    match said.get("status"), said.get("reason"):
        case "delivered", _:
            return "delivering"
        case "retrying", reason:
            return "slowed" if reason == "throttled" else "retrying"
        case "dead_lettered", "suspended":
            return "suspended"
        case "dead_lettered", "blocked":
            return "gone" if said.get("code") == BUS_NOT_FOUND else "blocked"
        case _:
            return None
