"""Shortens a failing story: leaves out troubles and background faults for as long as it fails in the same way.

This is delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002), with trials
of several candidates at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tests.simulation.pool import Pool
from tests.simulation.trial import Result, Task, plan_of

_Part = TypeVar("_Part")


def shorten(
    parts: Sequence[_Part],
    first_failing: Callable[[Sequence[Sequence[_Part]]], int | None],
    jobs: int,
    is_over: Callable[[], bool],
) -> list[_Part]:
    """The fewest parts found with which the story fails in the same way.

    ``first_failing``: of these candidates, the place of the first that does; None if none does. It gets at most
    ``jobs`` of them.
    """
    left = list(parts)
    size = len(left)
    while size >= 1 and left:
        start = 0
        while start < len(left):
            starts = range(start, len(left), size)[:jobs]
            if is_over():
                return left
            candidates = [left[:at] + left[at + size :] for at in starts]
            found = first_failing(candidates)
            if found is None:
                start = starts[-1] + size
            else:
                left, start = candidates[found], starts[found]
        size = min(size // 2, max(len(left), 1))
    return left


def shorten_story(pool: Pool, failed: Result, limit_secs: float) -> Any:
    """The plan of a failed trial with as few troubles and background faults as were found within ``limit_secs``."""
    plan, until = plan_of(failed.task), time.monotonic() + limit_secs

    def with_parts(parts: Sequence[tuple[str, Any]]) -> Any:
        kept = {kind for what, kind in parts if what == "rate"}
        without = plan.without_rates(*(kind for kind in plan.rates if kind not in kept))
        return without.with_troubles(trouble for what, trouble in parts if what == "trouble")

    def first_failing(candidates: Sequence[Sequence[tuple[str, Any]]]) -> int | None:
        tasks = [changed(failed.task, with_parts(parts)) for parts in candidates]
        results = pool.play(tasks)
        return next((place for place, one in enumerate(results) if one.broken & failed.broken), None)

    everything = [*(("rate", kind) for kind in plan.rates), *(("trouble", trouble) for trouble in plan.troubles)]
    parts = shorten(everything, first_failing, pool.jobs, lambda: time.monotonic() >= until)
    return with_parts(parts)


def changed(task: Task, plan: Any) -> Task:
    """The trial of the same product with another plan."""
    return Task(task.seed, task.profile, plan.as_json(), task.mutant, story=task.story)
