"""Event patterns of EventBridge rules ("Amazon EventBridge event patterns", EventBridge User Guide).

A pattern has the structure of the events it matches: an object for an object, and for a value a list of alternatives,
each a value or an operator. Every field of the pattern must match; the event's other fields are ignored. A list in the
event matches when one of its elements does. Numbers compare as written: 300 is not 300.0.

Supported operators: prefix, suffix, equals-ignore-case, anything-but, numeric, exists. The others are refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

Test = Callable[[Any], bool]
"""Tells whether a value of the event matches. A field that the event does not have is tested as `_ABSENT`."""

_ABSENT: Final = object()
_COMPARISONS: Final = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_PAIR, _RANGE = 2, 4
"""Lengths of a numeric operand: one comparison, or a lower and an upper bound."""


def compile_pattern(pattern: Any) -> Test:
    """Return the test that an event, a decoded JSON object, must pass. Raises ValueError naming the field."""
    return _object(pattern, "pattern")


def _object(pattern: Any, path: str) -> Test:
    if not isinstance(pattern, dict) or not pattern:
        raise ValueError(f"{path}: must be an object with at least one field, or a list of values")
    if "$or" in pattern:
        raise ValueError(f"{path}: $or is not supported; write one rule for each alternative")
    fields = {
        name: (_alternatives if isinstance(value, list) else _object)(value, f"{path}.{name}")
        for name, value in pattern.items()
    }

    def matches(value: Any) -> bool:
        if isinstance(value, list):
            return any(matches(element) for element in value)
        known = value if isinstance(value, dict) else {}
        return all(test(known.get(name, _ABSENT)) for name, test in fields.items())

    return matches


def _alternatives(alternatives: list[Any], path: str) -> Test:
    if not alternatives:
        raise ValueError(f"{path}: must not be empty")
    tests = [_alternative(alternative, path) for alternative in alternatives]

    def matches(value: Any) -> bool:
        values = value if isinstance(value, list) else [value]
        # Operators look at leaves only: an object counts as no value.
        leaves = [_ABSENT if isinstance(one, dict) else one for one in values]
        return any(test(leaf) for test in tests for leaf in leaves)

    return matches


def _alternative(alternative: Any, path: str) -> Test:
    if isinstance(alternative, list):
        raise ValueError(f"{path}: must not hold a list")  # noqa: TRY004 - one error for every wrong pattern
    if not isinstance(alternative, dict):
        return _equal(alternative)
    if len(alternative) != 1:
        raise ValueError(f"{path}: an operator must be an object with exactly one field")
    ((name, operand),) = alternative.items()
    if name not in _OPERATORS:
        raise ValueError(f"{path}: the operator {name!r} is not supported, only {', '.join(_OPERATORS)}")
    return _OPERATORS[name](operand, f"{path}.{name}")


def _equal(wanted: Any) -> Test:
    # Python takes True for 1 and 300.0 for 300.
    return lambda value: type(value) is type(wanted) and value == wanted


def _on_text(matches: Callable[[str, str], bool]) -> Callable[[Any, str], Test]:
    """Return the operator that compares a string of the event with its operand."""

    def operator_on_text(operand: Any, path: str) -> Test:
        if not isinstance(operand, str):
            raise ValueError(f"{path}: must be a string")  # noqa: TRY004 - one error for every wrong pattern
        return lambda value: isinstance(value, str) and matches(value, operand)

    return operator_on_text


def _anything_but(operand: Any, path: str) -> Test:
    excluded = operand if isinstance(operand, list) else [operand]
    if not excluded or any(isinstance(one, dict) and one.keys() <= {"exists", "anything-but"} for one in excluded):
        raise ValueError(f"{path}: must be values, or one of prefix, suffix, equals-ignore-case")
    tests = [_alternative(one, path) for one in excluded]
    return lambda value: value is not _ABSENT and not any(test(value) for test in tests)


def _numeric(operand: Any, path: str) -> Test:
    wrong = ValueError(f'{path}: must be comparisons such as [">", 0, "<=", 5]')
    if not isinstance(operand, list) or len(operand) not in {_PAIR, _RANGE}:
        raise wrong
    bounds = [(_COMPARISONS.get(sign), number) for sign, number in zip(operand[::2], operand[1::2], strict=True)]
    if any(compare is None or not _is_number(number) for compare, number in bounds):
        raise wrong
    return lambda value: _is_number(value) and all(compare(value, number) for compare, number in bounds if compare)


def _exists(operand: Any, path: str) -> Test:
    if not isinstance(operand, bool):
        raise ValueError(f"{path}: must be true or false")  # noqa: TRY004 - one error for every wrong pattern
    return lambda value: (value is not _ABSENT) is operand


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_OPERATORS: Final[dict[str, Callable[[Any, str], Test]]] = {
    "prefix": _on_text(str.startswith),
    "suffix": _on_text(str.endswith),
    "equals-ignore-case": _on_text(lambda value, text: value.casefold() == text.casefold()),
    "anything-but": _anything_but,
    "numeric": _numeric,
    "exists": _exists,
}
