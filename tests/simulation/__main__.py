"""``make simulate``: whole fleets in virtual time, with faults drawn from a seed. The last line of output is JSON."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.simulation.pool import Pool
from tests.simulation.runner import MANY_SEEDS, SHORTEN_SECS, Options, Run, random_seed, say
from tests.simulation.trial import STORY

PROFILES = ("calm", "rough", "hostile")
_SEEDS = 20
"""Seeds of a run without options: about a minute on two cores."""


def main() -> int:
    """Exit code: 0 when every assertion held, and many seeds reached every declared state."""
    options = read_options(sys.argv[1:])
    with Pool.open(story=options.story, jobs=options.jobs) as pool:
        if options.plan is None:
            say(f"The first seed is {options.first} ({options.profile}), in {pool.jobs} processes.")
        return Run(options, pool).execute()


def read_options(arguments: list[str]) -> Options:
    """The options of the command line. Exits with 2 for wrong ones."""
    parser = argparse.ArgumentParser(
        prog="make simulate ARGS='...'",
        description=f"{__doc__} At least {MANY_SEEDS} seeds together must reach every declared state.",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, help="play this one story")
    which.add_argument("--seeds", type=int, metavar="N", help=f"play N stories (default: {_SEEDS})")
    which.add_argument("--minutes", type=float, metavar="M", help="play stories for M minutes")
    which.add_argument("--plan", type=Path, metavar="FILE", help="play the plan in this file, as a shortened one")
    parser.add_argument("--profile", choices=PROFILES, default="hostile", help="how hard the stories are")
    parser.add_argument("--first", type=int, metavar="SEED", help="first of several seeds (default: a random number)")
    parser.add_argument("--shorten-secs", type=float, default=SHORTEN_SECS, metavar="S", help="0: shorten nothing")
    parser.add_argument("--jobs", type=int, default=0, help="processes (default: one for each processor)")
    parser.add_argument("--story", default=STORY, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    first, profile, seeds = given.first, given.profile, given.seeds
    if given.seed is not None:
        first, seeds = given.seed, 1
    elif given.plan is not None:
        plan = json.loads(given.plan.read_text())
        first, profile = plan["seed"], plan["profile"]
    elif given.minutes is None and seeds is None:
        seeds = _SEEDS
    return Options(
        profile,
        random_seed() if first is None else first,
        seeds,
        given.minutes,
        given.plan,
        given.shorten_secs,
        given.jobs,
        given.story,
    )


if __name__ == "__main__":
    sys.exit(main())
