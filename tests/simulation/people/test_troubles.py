from __future__ import annotations

import inspect

import pytest

from tests.simulation.people.troubles import KINDS, kinds_of, trouble
from tests.simulation.plan import number


def test_each_kind_draws_the_arguments_of_its_function() -> None:
    for kind in kinds_of("hostile"):
        first, *others = inspect.signature(kind.apply).parameters
        assert first == "world", kind.name
        assert set(others) == set(kind.draws), kind.name


def test_each_kind_is_described() -> None:
    assert [kind.name for kind in kinds_of("hostile") if not kind.apply.__doc__] == []


def test_milder_profiles_have_fewer_kinds() -> None:
    calm, rough, hostile = ({kind.name for kind in kinds_of(profile)} for profile in ("calm", "rough", "hostile"))
    assert calm < rough < hostile == set(KINDS)


def test_two_kinds_of_one_name_are_refused() -> None:
    def kill_worker(world: object, *, worker: int) -> None:
        del world, worker

    kinds_of("hostile")
    with pytest.raises(ValueError, match="there are two kinds of troubles kill_worker"):
        trouble(1.0, worker=number(0, 1))(kill_worker)
