"""The hunt: plays stories with a mutant until one fails in a way in which it does not fail without the mutant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, final

from tests.simulation.mutants.mutant import Mutant
from tests.simulation.pool import Pool
from tests.simulation.trial import STORY, Result, Task


class Found(NamedTuple):
    """The result of a hunt."""

    mutant: Mutant
    seeds: int
    """Stories that it took; 0 when the mutant survived all of them."""
    violated: str = ""
    """The assertion and its sentence, or the way in which the simulator failed."""


@final
class Hunt:
    """Searches for mutants, several at once."""

    def __init__(self, pool: Pool, seeds: range, story: str = STORY) -> None:
        """``seeds``: of the stories that each mutant may take."""
        self.pool = pool
        self.seeds = seeds
        self.story = story
        self.sound: dict[Task, Result] = {}
        """Results without a mutant: a promise that is broken there proves nothing."""
        self.stories = 0
        """Stories played so far, without those of `sound`."""

    def find(self, mutants: Sequence[Mutant], tell: Callable[[Found], None]) -> list[Found]:
        """Search for each of them. ``tell`` gets each result as soon as it is known."""
        searches = [_Search(self, mutant, tell) for mutant in mutants]
        for search in searches:
            search.go_on()
        self.pool.run()
        return [search.found for search in searches]


@final
class _Search:
    """The search for one mutant, story by story."""

    def __init__(self, hunt: Hunt, mutant: Mutant, tell: Callable[[Found], None]) -> None:
        self.found = Found(mutant, 0)
        self._hunt = hunt
        self._mutant = mutant
        self._tell = tell
        self._played = 0

    def go_on(self) -> None:
        """Play the next story, if the mutant may take another one."""
        if self._played == len(self._hunt.seeds):
            self._tell(self.found)
            return
        seed = self._hunt.seeds[self._played]
        self._played += 1
        task = Task(seed, self._mutant.profile, "", self._mutant.name, self._mutant.needs, self._hunt.story)
        self._hunt.pool.submit(task, self._judge)

    def _judge(self, result: Result) -> None:
        self._hunt.stories += 1
        sound = replace(result.task, mutant="")
        if result.failure is None:
            self.go_on()
        elif sound in self._hunt.sound:
            self._compare(result)
        else:
            self._hunt.pool.submit(sound, lambda without: self._learn(without, result), is_next=True)

    def _learn(self, without: Result, result: Result) -> None:
        self._hunt.sound[without.task] = without
        self._compare(result)

    def _compare(self, result: Result) -> None:
        """End the search if the mutant broke a promise that holds without it."""
        broken = sorted(result.broken - self._hunt.sound[replace(result.task, mutant="")].broken)
        if not broken:
            self.go_on()
            return
        told = [f"{one.assertion}: {one.sentence}" for one in result.violations if one.assertion in broken]
        last_line = result.report.strip().rpartition("\n")[2]
        self.found = Found(self._mutant, self._played, told[0] if told else f"{broken[0]}: {last_line}")
        self._tell(self.found)
