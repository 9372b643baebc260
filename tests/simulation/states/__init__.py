"""Interesting states: each story counts how often it reaches them. `declaration` says how one is declared."""

from __future__ import annotations

from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.scene import Scene
from tests.simulation.states import cursors, deliveries, fleet
from tests.simulation.states.declaration import STATES, state

__all__ = ["STATES", "count_states", "cursors", "deliveries", "fleet", "state"]


def count_states(story: Deliveries) -> dict[str, int]:
    """The number of times that a story reached each declared state; 0 for the others."""
    scene = Scene(story)
    return {name: one.count(scene) for name, one in STATES.items()}
