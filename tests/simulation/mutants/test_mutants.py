"""Every mutant fits the product of today, changes it and leaves it as it was."""

from __future__ import annotations

from types import CodeType

import pytest

from pushrail_stream.core.record import TopicIdentity
from pushrail_stream.kafka import topic_ids
from tests.simulation.mutants import MUTANTS
from tests.simulation.mutants.mutant import Change, Mutant, StaleMutantError
from tests.simulation.plan import as_profile
from tests.simulation.story import draw_plan, with_kinds


def codes(mutant: Mutant) -> list[CodeType]:
    return [change._find().__code__ for change in mutant.changes]


def differ(one: CodeType, other: CodeType) -> bool:
    return (one.co_code, one.co_consts, one.co_names) != (other.co_code, other.co_consts, other.co_names)


def test_there_are_enough_with_names_of_their_own() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)
    assert len(names) >= 100


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies_and_is_undone(mutant: Mutant) -> None:
    before = codes(mutant)
    with mutant.applied():
        assert all(differ(now, was) for now, was in zip(codes(mutant), before, strict=True))
    assert all(now is was for now, was in zip(codes(mutant), before, strict=True))


@pytest.mark.parametrize(
    "change",
    [
        Change("core.commit:no_such_function", "old", "new"),
        Change("core.no_such_module:name", "old", "new"),
        Change("core.offset_set:MAX_OFFSETS", "old", "new"),
        Change("core.commit:was_recreated", "text that is not there", "new"),
        Change("core.commit:was_recreated", "None", "new"),
    ],
    ids=["function", "module", "constant", "text", "text that occurs twice"],
)
def test_a_mutant_without_its_target_fails(change: Change) -> None:
    with pytest.raises(StaleMutantError, match=change.target.split(":")[0]), Mutant("any", (change,)).applied():
        pass


def test_imported_names_meet_the_fault() -> None:
    is_noticed = vars(topic_ids)["was_recreated"]
    old, new = TopicIdentity("cluster", "one"), TopicIdentity("cluster", "two")
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "ignore the topic id")
    with mutant.applied():
        assert not is_noticed(old, new)
    assert is_noticed(old, new)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_needs_of_a_mutant_are_kinds_of_troubles_and_faults(mutant: Mutant) -> None:
    plan = draw_plan(1, as_profile(mutant.profile))
    needed = with_kinds(plan, mutant.needs)
    assert len(needed.troubles) + len(needed.rates) >= len(plan.troubles) + len(plan.rates)
