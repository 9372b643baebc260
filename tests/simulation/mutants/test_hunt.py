"""The hunt for mutants, with a story that needs no world."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, Final

FAKE: Final = "tests.simulation.fake_story"


def hunt(*arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "tests.simulation.mutants", "--story", FAKE, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.returncode, json.loads(ended.stdout.splitlines()[-1])


def test_a_mutant_is_found_by_the_first_story_that_it_breaks() -> None:
    code, figures = hunt("--only", "ignore the topic id", "--seeds", "3")
    row = {"mutant": "ignore the topic id", "seeds": 3, "violated": "nothing is repeated: event 8 came twice"}
    assert (code, figures["table"], figures["survived"]) == (0, [row], [])


def test_a_promise_that_is_broken_without_the_mutant_proves_nothing() -> None:
    """The hostile stories of this fake lose an event with every mutant, and without one."""
    code, figures = hunt("--only", "ignore the topic id", "--seeds", "2")
    assert (code, figures["found"], figures["survived"]) == (1, 0, ["ignore the topic id"])


def test_a_survivor_fails_the_hunt() -> None:
    code, figures = hunt("--room", "observe", "--seeds", "2")
    assert (code, figures["found"], figures["stories"]) == (1, 0, 2 * figures["mutants"])
