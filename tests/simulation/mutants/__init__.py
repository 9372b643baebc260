"""Deliberate faults of the product. The simulation must find each: `make simulate-mutants`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.simulation.mutants import adapters, core, cursors, operations, pipeline
from tests.simulation.mutants.mutant import Mutant

ROOMS: Final[Mapping[str, tuple[Mutant, ...]]] = {
    "core": core.MUTANTS,
    "pipeline": pipeline.MUTANTS,
    "cursors": cursors.MUTANTS,
    "kafka": adapters.KAFKA,
    "eventbridge": adapters.EVENTBRIDGE,
    "registry": adapters.REGISTRY,
    "observe": adapters.OBSERVE,
    "operations": operations.MUTANTS,
}
MUTANTS: Final = tuple(mutant for room in ROOMS.values() for mutant in room)
