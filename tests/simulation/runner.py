"""Runs many stories, counts what they show, and tells failing seeds in full."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final, final

from tests.simulation.pool import Pool
from tests.simulation.shorten import shorten_story
from tests.simulation.trial import STORY, Result, Task, plan_of

MANY_SEEDS: Final = 200
"""Seeds after which every declared state must have been reached: as many as the run that measures the speed has."""
SHORTEN_SECS: Final = 120.0
"""Longest time for shortening one failing story: some ten times as long as it takes for most."""
_SHORTENED: Final = 3
"""Failing stories of a run that are shortened. The others are named."""
_PROGRESS_SECS: Final = 10.0
"""Time between two lines about the progress."""
_VIOLATIONS_SHOWN: Final = 5
"""Violations of one story that are printed. Most follow from the first."""


@dataclass(frozen=True)
class Options:
    """The stories to play."""

    profile: str
    first: int
    """The first seed; the others follow it."""
    seeds: int | None = None
    minutes: float | None = None
    plan: Path | None = None
    """A file with the one plan to play, in place of a seed's."""
    shorten_secs: float = SHORTEN_SECS
    jobs: int = 0
    story: str = STORY

    def tasks(self) -> Iterator[Task]:
        """The stories to play, without end when a time limits them."""
        if self.plan is not None:
            yield Task(self.first, self.profile, self.plan.read_text(), story=self.story)
            return
        numbers = count(self.first) if self.seeds is None else range(self.first, self.first + self.seeds)
        for seed in numbers:
            yield Task(seed, self.profile, story=self.story)


@final
@dataclass
class Totals:
    """The sums over all stories of a run."""

    stories: int = 0
    simulated_secs: float = 0.0
    cpu_secs: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    """Failing stories, by what failed: an assertion, or ``crashed``, ``hung`` or ``died``."""
    violations: int = 0
    failed: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Add a story."""
        self.stories += 1
        self.simulated_secs += result.simulated_secs
        self.cpu_secs += result.cpu_secs
        self.counts.update(result.counts)
        self.faults.update(result.faults)
        for state, times in result.states.items():
            self.states[state] += times  # `update` would drop the states that were never reached
        if result.failure is not None:
            self.broken.update(result.broken)
            self.violations += max(1, len(result.violations))
            self.failed.append(result)

    @property
    def unreached(self) -> list[str]:
        """The declared states that no story reached."""
        return sorted(state for state, times in self.states.items() if not times)

    @property
    def lacks_states(self) -> bool:
        """Whether states were not reached in many stories."""
        return self.stories >= MANY_SEEDS and bool(self.unreached)

    def figures(self, options: Options, secs: float) -> dict[str, Any]:
        """The figures of the run, as JSON values."""
        return {
            "profile": options.profile,
            "first_seed": options.first,
            "seeds": self.stories,
            "simulated_hours": round(self.simulated_secs / 3600, 3),
            "events": 0,
            "deliveries": 0,
            **self.counts,
            "faults": dict(sorted(self.faults.items())),
            "states": dict(sorted(self.states.items())),
            "states_unreached": self.unreached,
            "violations": self.violations,
            "violated": dict(sorted(self.broken.items())),
            "failed_seeds": [result.task.seed for result in self.failed],
            "seconds": round(secs, 1),
            "cpu_seconds": round(self.cpu_secs, 1),
        }


@final
class Run:
    """One run of many stories."""

    def __init__(self, options: Options, pool: Pool) -> None:
        self._options = options
        self._pool = pool
        self._totals = Totals()
        self._tasks = options.tasks()
        self._begun = self._told = time.monotonic()

    def execute(self) -> int:
        """Play the stories and tell about them. The exit code: 1 on a violation, or on states never reached."""
        try:
            for _ in range(self._pool.jobs):
                self._submit_next()
            self._pool.run()
        except KeyboardInterrupt:
            say("interrupted: the figures are of the stories that ended")
            self._print()
            return 130
        for failed in self._totals.failed[:_SHORTENED]:
            self._tell_shortened(failed)
        if self._totals.lacks_states:
            say(f"NEVER REACHED in {self._totals.stories} stories: {', '.join(self._totals.unreached)}")
        self._print()
        return 1 if self._totals.failed or self._totals.lacks_states else 0

    def _submit_next(self) -> None:
        minutes = self._options.minutes
        if minutes is not None and time.monotonic() - self._begun >= 60 * minutes:
            return
        task = next(self._tasks, None)
        if task is not None:
            self._pool.submit(task, self._done)

    def _done(self, result: Result) -> None:
        self._totals.add(result)
        if result.failure is not None:
            say(describe(result))
        now = time.monotonic()
        if now - self._told >= _PROGRESS_SECS:
            self._told = now
            totals = self._totals
            say(
                f"{now - self._begun:6.0f} s: {totals.stories} stories, {totals.simulated_secs / 3600:.1f} simulated "
                f"hours, {totals.counts['events']:,} events, {len(totals.failed)} failed"
            )
        self._submit_next()

    def _tell_shortened(self, failed: Result) -> None:
        limit_secs = self._options.shorten_secs
        if limit_secs <= 0:
            return
        say(f"\nShortening the story of seed {failed.task.seed} for at most {limit_secs:.0f} s ...")
        try:
            plan = shorten_story(self._pool, failed, limit_secs)
        except Exception as error:  # noqa: BLE001 - a plan that cannot be drawn cannot be shortened either
            say(f"it cannot be shortened: {type(error).__name__}: {error}")
            return
        file = Path(".cache") / "simulation" / f"{failed.task.profile}-{failed.task.seed}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(plan.as_json() + "\n")
        before = plan_of(failed.task)
        say(
            f"The shortened story, with {len(plan.troubles)} of {len(before.troubles)} troubles and {len(plan.rates)} "
            f'of {len(before.rates)} background faults. make simulate ARGS="--plan {file}" repeats it.'
        )
        say(str(plan))
        (again,) = self._pool.play(
            [Task(failed.task.seed, failed.task.profile, plan.as_json(), story=failed.task.story)]
        )
        say(describe_failure(again))

    def _print(self) -> None:
        figures = self._totals.figures(self._options, time.monotonic() - self._begun)
        print(json.dumps(figures), flush=True)


def describe(result: Result) -> str:
    """A failed story: the command that repeats it exactly, and what failed."""
    task = result.task
    command = f'make simulate ARGS="--seed {task.seed} --profile {task.profile}"'
    return f"\nFAILED: {command}\n{describe_failure(result)}"


def describe_failure(result: Result) -> str:
    """The failures of a story, one line each."""
    if result.failure == "violated":
        shown = [f"  {one.at:9.3f} s  {one.assertion}: {one.sentence}" for one in result.violations]
        more = len(shown) - _VIOLATIONS_SHOWN
        return "\n".join([*shown[:_VIOLATIONS_SHOWN], *([f"  and {more} more"] if more > 0 else [])])
    if result.failure is None:
        return "  it does not fail again"
    cause = {
        "crashed": "the simulator raised",
        "hung": f"it was still going on after {result.cpu_secs:.0f} s of CPU time",
        "died": "its process ended",
    }[result.failure]
    return f"  {cause}:\n{result.report}"


def random_seed() -> int:
    """A random first seed."""
    return random.SystemRandom().randrange(1_000_000_000)


def say(text: str) -> None:
    """For people."""
    print(text, file=sys.stderr, flush=True)
