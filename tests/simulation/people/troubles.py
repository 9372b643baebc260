"""The kinds of troubles. A new kind is one function with the decorator `trouble`, in a module of this folder.

    @trouble(often=2, worker=number(0, 4), secs=between(1, 60))
    def freeze_worker(world: World, worker: int, secs: float) -> None:
        ...

Each argument of the decorator after ``often`` and ``least`` says how an argument of the function is drawn. The plan has
the drawn values. A function that breaks something gives `World.mend_later` the way to mend it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from random import Random
from typing import Any, Final, NamedTuple, TypeVar

from tests.simulation.plan import PROFILES, Draw, Plan, Profile, Trouble

_MODULES: Final = (
    "aws", "fleet", "kafka", "operators", "producers", "registry", "downtime", "identity", "distance", "lagging",
)  # fmt: skip
"""The modules with kinds of troubles."""
_Apply = TypeVar("_Apply", bound=Callable[..., None])


class Kind(NamedTuple):
    """One kind of troubles."""

    name: str
    apply: Callable[..., None]
    """Called with the world and the drawn details. It must not block."""
    often: float
    """Average number in ten minutes of a story that has this kind."""
    least: Profile
    """The mildest profile that has this kind."""
    draws: Mapping[str, Draw]

    def draw(self, dice: Random, plan: Plan, at: float) -> Trouble:
        """One trouble of this kind."""
        return Trouble(at, self.name, {name: draw(dice, plan) for name, draw in self.draws.items()})


KINDS: Final[dict[str, Kind]] = {}
"""All kinds by name, in the order in which they are declared."""


def trouble(often: float, *, least: Profile = "rough", **draws: Draw) -> Callable[[_Apply], _Apply]:
    """Declare a kind of troubles. ``often`` 0: it is not drawn by chance."""

    def declare(apply: _Apply) -> _Apply:
        name = apply.__name__
        if name in KINDS:
            raise ValueError(f"there are two kinds of troubles {name}")
        KINDS[name] = Kind(name, apply, often, least, draws)
        return apply

    return declare


def _declare_all() -> None:
    """Import the modules with kinds: they import this one. A plan may come from JSON, before any kind was drawn."""
    for module in _MODULES:
        import_module(f"tests.simulation.people.{module}")


def kinds_of(profile: Profile) -> list[Kind]:
    """The kinds that stories of a profile may have."""
    _declare_all()
    return [kind for kind in KINDS.values() if PROFILES.index(kind.least) <= PROFILES.index(profile)]


def apply_trouble(world: Any, trouble: Trouble) -> None:
    """Let it happen now."""
    _declare_all()
    KINDS[trouble.name].apply(world, **trouble.details)
