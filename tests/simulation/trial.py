"""One trial: a story is played in a process of its own, and its result comes back as plain values.

Every trial begins in a fresh copy of the same process, so its result depends on its plan alone. A story that raises,
hangs or ends its process is a result, too.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from tests.simulation.mutants import MUTANTS

STORY: Final = "tests.simulation.story"
"""The module that draws plans (`draw_plan`, `read_plan`, `with_kinds`) and plays them (`play`)."""


@dataclass(frozen=True)
class Task:
    """A story to play: by its seed, or by its plan when that was changed."""

    seed: int
    profile: str
    plan: str = ""
    """The plan as JSON. Empty: the plan of the seed."""
    mutant: str = ""
    """The name of a fault that the product has in this trial."""
    needs: tuple[str, ...] = ()
    """Kinds of troubles and background faults that the drawn plan has at all events."""
    story: str = STORY


class Violation(NamedTuple):
    """A broken promise."""

    at: float
    """Virtual seconds."""
    assertion: str
    sentence: str


Failure = Literal["violated", "crashed", "hung", "died"]
"""``violated``: an assertion does not hold. ``crashed``: the simulator raised. ``hung``: it used too much CPU time.
``died``: its process ended in another way."""


@dataclass(frozen=True)
class Result:
    """The result of one trial."""

    task: Task
    failure: Failure | None
    violations: tuple[Violation, ...] = ()
    report: str = ""
    """A traceback of a crash or a hang."""
    simulated_secs: float = 0.0
    counts: Mapping[str, int] = field(default_factory=dict)
    """At least ``events`` and ``deliveries``."""
    faults: Mapping[str, int] = field(default_factory=dict)
    """The faults that took effect, by kind."""
    states: Mapping[str, int] = field(default_factory=dict)
    """Every declared state, with the number of times that it was reached."""
    hash: str = ""
    """The hash of the story's whole history."""
    cpu_secs: float = 0.0

    @property
    def broken(self) -> frozenset[str]:
        """Names of what failed, to compare two results."""
        if self.failure == "violated":
            return frozenset(violation.assertion for violation in self.violations)
        return frozenset({self.failure} if self.failure else ())


def plan_of(task: Task) -> Any:
    """The plan that the task plays."""
    story = import_module(task.story)
    if task.plan:
        return story.read_plan(task.plan)
    plan = story.draw_plan(task.seed, task.profile)
    return story.with_kinds(plan, task.needs) if task.needs else plan


def play(task: Task) -> Result:
    """Play the story in this process."""
    mutants = {mutant.name: mutant for mutant in MUTANTS}
    begun = time.process_time()
    try:
        plan = plan_of(task)
        with mutants[task.mutant].applied() if task.mutant else nullcontext():
            outcome = import_module(task.story).play(plan)
    except Exception:  # noqa: BLE001 - a crash of the simulator is a result
        return Result(task, "crashed", report=traceback.format_exc(), cpu_secs=time.process_time() - begun)
    violations = tuple(Violation(one.at, one.assertion, one.sentence) for one in outcome.violations)
    return Result(
        task,
        "violated" if violations else None,
        violations,
        simulated_secs=outcome.simulated_secs,
        counts=dict(outcome.counts),
        faults=dict(outcome.faults),
        states=dict(outcome.states),
        hash=outcome.hash,
        cpu_secs=time.process_time() - begun,
    )


def run(task: Task, answer: Any, cpu_secs: float, report: str) -> None:
    """Play the story and send its result to ``answer``. The target of the trial's process.

    After ``cpu_secs`` of CPU time the process writes its stack to the file ``report`` and ends by SIGPROF.
    """
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the figures alone go to stdout
    gc.disable()  # the process ends after this story: to look for garbage would take a tenth of its time
    with Path(report).open("w") as file:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        faulthandler.register(signal.SIGPROF, file=file, all_threads=False, chain=True)
        signal.setitimer(signal.ITIMER_PROF, cpu_secs)
        answer.send(play(task))
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.unregister(signal.SIGPROF)
    answer.close()
