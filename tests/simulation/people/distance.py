"""The distance to AWS. The last kinds of all, as each drawn kind moves the draws of the kinds after it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from tests.simulation.aws.cloud import NEAR_SECS
from tests.simulation.people.troubles import trouble
from tests.simulation.plan import between

if TYPE_CHECKING:
    from tests.simulation.world import World

_UNEVEN: Final = 1.1
"""Factor between the shortest and the longest way of a packet. The ways of a line that carries little differ little."""


@trouble(1.5, way_secs=between(0.02, 0.1), secs=between(30, 300))
def move_away(world: World, *, way_secs: float, secs: float) -> None:
    """The fleet calls AWS over a long line: each way takes long, and all take about as long."""
    world.cloud.latency_secs = way_secs, _UNEVEN * way_secs
    world.mend_later(secs, "distance", partial(setattr, world.cloud, "latency_secs", NEAR_SECS))
