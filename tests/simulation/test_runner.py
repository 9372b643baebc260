"""The runner, with a story that needs no world."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.simulation import fake_story
from tests.simulation.pool import Pool
from tests.simulation.runner import MANY_SEEDS, Options, Totals
from tests.simulation.shorten import shorten
from tests.simulation.trial import Result, Task

FAKE: Final = "tests.simulation.fake_story"


class Ended(NamedTuple):
    code: int
    figures: dict[str, Any]
    told: str


def simulate(tmp_path: Path, *arguments: str) -> Ended:
    """Run the command in a folder of its own, with the story that needs no world."""
    root = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--story", FAKE, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = ended.stdout.splitlines()
    assert len(lines) == 1, ended.stderr
    return Ended(ended.returncode, json.loads(lines[-1]), ended.stderr)


def play(*tasks: Task, cpu_secs: float = 30.0) -> list[Result]:
    with Pool.open(story=FAKE, jobs=2, cpu_secs=cpu_secs) as pool:
        return pool.play(tasks)


def test_the_figures_of_many_seeds(tmp_path: Path) -> None:
    ended = simulate(tmp_path, "--seeds", "5", "--first", "1", "--profile", "rough")
    assert ended.code == 0, ended.told
    figures = ended.figures
    assert (figures["seeds"], figures["simulated_hours"], figures["violations"]) == (5, 2.5, 0)
    assert (figures["events"], figures["deliveries"], figures["faults"]) == (500, 600, {"slow": 15})
    assert figures["states"] == {"a probe in flight": 5, "a truncated log": 0}
    assert figures["seconds"] > 0


def test_a_failing_seed_prints_its_command_and_a_shortened_story(tmp_path: Path) -> None:
    ended = simulate(tmp_path, "--seed", "5", "--profile", "hostile")
    assert (ended.code, ended.figures["violated"]) == (1, {"nothing is lost": 1})
    assert 'make simulate ARGS="--seed 5 --profile hostile"' in ended.told
    assert "12.500 s  nothing is lost: event 7 was lost" in ended.told
    assert "with 1 of 6 troubles and 1 of 2 background faults" in ended.told
    assert "seed 5: lost, kill" in ended.told
    again = simulate(tmp_path, "--plan", ".cache/simulation/hostile-5.json", "--shorten-secs", "0")
    assert (again.code, again.figures["violated"]) == (1, {"nothing is lost": 1})


def test_a_time_ends_a_run(tmp_path: Path) -> None:
    ended = simulate(tmp_path, "--minutes", "0.001", "--profile", "calm")
    assert (ended.code, ended.figures["violations"]) == (0, 0)
    assert ended.figures["seeds"] >= 1


@pytest.mark.parametrize(
    ("seed", "failure", "report"),
    [
        (fake_story.CRASHING, "crashed", "ArithmeticError: the simulator is wrong"),
        (fake_story.HANGING, "hung", "in play"),
        (fake_story.DYING, "died", "7"),
    ],
)
def test_a_seed_that_ends_the_simulator_fails_in_its_own_way(seed: int, failure: str, report: str) -> None:
    tasks = [Task(number, "calm", story=FAKE) for number in (1, seed, 2)]
    before, failed, after = play(*tasks, cpu_secs=2.0)
    assert (before.failure, after.failure) == (None, None)
    assert failed.failure == failure
    assert report in failed.report


def test_a_mutant_is_only_in_its_own_trial() -> None:
    mutated, sound = play(Task(3, "calm", mutant="ignore the topic id", story=FAKE), Task(3, "calm", story=FAKE))
    assert (list(mutated.broken), list(sound.broken)) == (["nothing is repeated"], [])


def test_many_seeds_must_reach_every_state() -> None:
    totals = Totals()
    result = Result(Task(1, "calm"), None, states={"reached": 1, "unreached": 0})
    for _ in range(MANY_SEEDS - 1):
        totals.add(result)
    assert (totals.unreached, totals.lacks_states) == (["unreached"], False)
    totals.add(result)
    assert totals.lacks_states


def test_seeds_follow_the_first() -> None:
    assert [task.seed for task in Options("calm", 7, seeds=3).tasks()] == [7, 8, 9]


@pytest.mark.parametrize("needed", [[], [1], [0, 9], [2, 3, 7], list(range(10))], ids=str)
@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_shortening_finds_what_is_needed(needed: Sequence[int], jobs: int) -> None:
    def first_failing(candidates: Sequence[Sequence[int]]) -> int | None:
        assert len(candidates) <= jobs
        return next((place for place, parts in enumerate(candidates) if set(needed) <= set(parts)), None)

    assert shorten(range(10), first_failing, jobs, lambda: False) == needed


def test_shortening_ends_in_time() -> None:
    trials: list[int] = []
    left = shorten(range(10), lambda candidates: trials.append(len(candidates)), 2, lambda: len(trials) == 3)
    assert (left, len(trials)) == (list(range(10)), 3)
