"""The state of a destination: one vocabulary for workers, pages, metrics and commands, in one order of severity."""

from __future__ import annotations

from typing import Final, Literal, get_args

DestinationState = Literal["ok", "retrying", "slowed", "blocked", "suspended", "gone"]
"""The mildest first. ``ok``: it takes what it is sent. ``retrying``: deliveries wait for their next attempt.
``slowed``: it gets fewer calls than usual, because it throttles or fails. ``blocked``: it refuses calls.
``suspended``: after repeated refusals it gets only probes. ``gone``: its bus does not exist."""
STATES: Final[tuple[DestinationState, ...]] = get_args(DestinationState)
DISABLED: Final = "disabled"
"""Stands in place of a state: the destination's document disables it, and it gets nothing."""
PAUSED: Final = "paused"
"""The same of a destination whose events are skipped until it is resumed."""
_SEVERITY: Final = {state: number for number, state in enumerate(STATES)}


def severity(state: DestinationState) -> int:
    """The place of a state among all, from 0; a worse one has a higher number."""
    return _SEVERITY[state]
