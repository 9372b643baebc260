"""Troubles of our own identity that AWS's answers do not tell apart from a customer's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation.people.troubles import trouble
from tests.simulation.plan import between

if TYPE_CHECKING:
    from tests.simulation.world import World


@trouble(0.7, secs=between(5, 200))
def forbid_roles(world: World, *, secs: float) -> None:
    """An administrator of our own account takes the right to assume roles from our user."""
    world.identity.forbid_roles()
    world.mend_later(secs, "right to assume roles", world.identity.allow_roles)
