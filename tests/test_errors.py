"""Errors for operators: a line for each problem, an exit code, and no group around them."""

from __future__ import annotations

import pytest

from pushrail_stream.errors import OperatorError, TopicRecreated, UsageError, without_group


def test_each_problem_is_a_line() -> None:
    error = OperatorError("the topic is missing", "the key is missing")
    assert str(error) == "the topic is missing\nthe key is missing"
    assert error.problems == ("the topic is missing", "the key is missing")


@pytest.mark.parametrize(("kind", "exit_code"), [(OperatorError, 1), (TopicRecreated, 1), (UsageError, 2)])
def test_wrong_input_has_an_exit_code_of_its_own(kind: type[OperatorError], exit_code: int) -> None:
    assert kind("because").exit_code == exit_code


def test_an_error_leaves_its_groups() -> None:
    inner = UsageError("the first", "its second line")
    with pytest.raises(UsageError) as caught, without_group():
        raise ExceptionGroup("tasks", [ExceptionGroup("more tasks", [inner])])
    assert caught.value is inner


def test_a_bug_keeps_its_group() -> None:
    group = ExceptionGroup("tasks", [OperatorError("a problem"), KeyError("a bug")])
    with pytest.raises(ExceptionGroup) as caught, without_group():
        raise group
    assert caught.value is group
