"""``make simulate-mutants``: the simulation must find each deliberate fault of the product. The last line is JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Final

from tests.simulation.mutants import ROOMS
from tests.simulation.mutants.hunt import Found, Hunt
from tests.simulation.pool import Pool
from tests.simulation.runner import say
from tests.simulation.trial import STORY

_SEEDS: Final = 20
"""Stories within which a mutant must be found."""
_NAME: Final = 72
_SENTENCE: Final = 110
"""Characters of a name and of a violation in the table."""


def main() -> int:
    """Exit code: 0 when every mutant was found."""
    parser = argparse.ArgumentParser(prog="make simulate-mutants ARGS='...'", description=__doc__)
    parser.add_argument("--seeds", type=int, default=_SEEDS, metavar="N", help="stories for each mutant, at most")
    parser.add_argument("--first", type=int, default=1, metavar="SEED", help="the first seed (default: 1)")
    parser.add_argument("--room", action="append", choices=list(ROOMS), help="only the mutants of this room")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the mutants with this text in their name")
    parser.add_argument("--jobs", type=int, default=0, help="processes (default: one for each processor)")
    parser.add_argument("--story", default=STORY, help=argparse.SUPPRESS)
    given = parser.parse_args()
    rooms = {room: mutants for room, mutants in ROOMS.items() if room in (given.room or ROOMS)}
    chosen = [(room, one) for room, mutants in rooms.items() for one in mutants if given.only in one.name]
    begun = time.monotonic()
    with Pool.open(story=given.story, jobs=given.jobs) as pool:
        hunt = Hunt(pool, range(given.first, given.first + given.seeds), given.story)
        found = hunt.find([mutant for _, mutant in chosen], lambda one: say(_row("", one)))
    survivors = [one.mutant.name for one in found if not one.seeds]
    print(f"{'room':<12} {'mutant':<{_NAME}} seeds  violated")
    for (room, _), one in zip(chosen, found, strict=True):
        print(_row(f"{room:<12} ", one))
    rows = [{"mutant": one.mutant.name, "seeds": one.seeds, "violated": one.violated} for one in found]
    figures = {
        "mutants": len(found),
        "found": len(found) - len(survivors),
        "survived": survivors,
        "most_seeds": max((one.seeds for one in found), default=0),
        "seeds_allowed": given.seeds,
        "stories": hunt.stories,
        "table": rows,
        "seconds": round(time.monotonic() - begun, 1),
    }
    print(json.dumps(figures), flush=True)
    return 1 if survivors else 0


def _row(room: str, one: Found) -> str:
    seeds = str(one.seeds) if one.seeds else "-"
    violated = one.violated if one.seeds else "SURVIVED"
    return f"{room}{one.mutant.name:<{_NAME}} {seeds:>5}  {violated[:_SENTENCE]}"


if __name__ == "__main__":
    sys.exit(main())
