"""Compiles a pattern, once, to a test of events.

A pattern has the structure of the events it matches: an object for an object, and for a value a list of alternatives.
Every field of the pattern must match; the event's other fields are ignored. ``$or`` beside other fields has a list of
objects, one of which must match too. A list in the event matches when one of its elements does, however deep it is
nested; fields of objects in it match in the same element. A list without a leaf counts as absent, and so does an object
where the pattern has values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pushrail_stream.patterns.values import OPERATORS, PatternError, Test, read_alternatives

MAX_LEVELS: Final = 64
"""Deepest nesting of a pattern. Events have far fewer levels of fields; compiling takes a call or two for each."""
OR: Final = "$or"
_ABSENT: Final = object()
_LEAST_ALTERNATIVES: Final = 2
_NOTHING: Final[dict[str, Any]] = {}


def compile_pattern(pattern: Any) -> Test:
    """The test that an event, a decoded JSON object, must pass. Raises `PatternError`."""
    return _object(pattern, "", 1, is_in_or=False)


def _object(pattern: Any, path: str, level: int, *, is_in_or: bool) -> Test:
    if not isinstance(pattern, dict) or not pattern:
        raise PatternError(path, "must be an object with at least one field")
    if level > MAX_LEVELS:
        raise PatternError(path, f"must not be nested more than {MAX_LEVELS} levels deep")
    fields, choices = list[tuple[str, Test]](), list[tuple[Test, ...]]()
    for name, value in pattern.items():
        place = f"{path}.{name}" if path else name
        if name == OR:
            choices.append(_or(value, place, level))
        elif is_in_or and name in OPERATORS:
            raise PatternError(place, f"must not be a field inside {OR}: it is an operator")
        else:
            fields.append((name, _field(value, place, level, is_in_or=is_in_or)))
    return _fields_test(tuple(fields), tuple(choices))


def _field(value: Any, path: str, level: int, *, is_in_or: bool) -> Test:
    if isinstance(value, list):
        return _values_test(value, path)
    if isinstance(value, dict):
        return _object(value, path, level + 1, is_in_or=is_in_or)
    raise PatternError(path, "must be a list of values, or an object of fields")


def _or(value: Any, place: str, level: int) -> tuple[Test, ...]:
    if not isinstance(value, list) or len(value) < _LEAST_ALTERNATIVES:
        raise PatternError(place, "must be a list of at least two objects")
    return tuple(_object(one, f"{place}[{number}]", level + 1, is_in_or=True) for number, one in enumerate(value))


def _fields_test(fields: tuple[tuple[str, Test], ...], choices: tuple[tuple[Test, ...], ...]) -> Test:
    def matches(value: Any) -> bool:
        if type(value) is list:
            return matches_in_list(value)
        known = value if type(value) is dict else _NOTHING
        for name, test in fields:
            if not test(known.get(name, _ABSENT)):
                return False
        return all(any(test(known) for test in choice) for choice in choices)

    def matches_in_list(values: list[Any]) -> bool:
        objects = [one for one in _flat(values) if type(one) is dict] or [_NOTHING]
        # A field is absent when no element has it.
        present = {name for name, _ in fields if any(name in one for one in objects)}
        wanted = [(name, test) for name, test in fields if name in present]
        if not all(test(_ABSENT) for name, test in fields if name not in present):
            return False
        return any(
            all(name in one and test(one[name]) for name, test in wanted)
            and all(any(test(one) for test in choice) for choice in choices)
            for one in objects
        )

    return matches


def _values_test(values: list[Any], path: str) -> Test:
    tests, takes_any, takes_none = read_alternatives(values, path)

    def matches(value: Any) -> bool:
        kind = type(value)
        if kind is list:
            leaves = [one for one in _flat(value) if type(one) is not dict]
            if not leaves:
                return takes_none
            return takes_any or any(test(leaf) for leaf in leaves for test in tests)
        if value is _ABSENT or kind is dict:
            return takes_none
        if takes_any:
            return True
        return any(test(value) for test in tests)

    return matches


def _flat(values: list[Any]) -> Iterator[Any]:
    """The elements of a list, and those of the lists in it. No recursion: lists may be a thousand levels deep."""
    stack = [iter(values)]
    while stack:
        for value in stack[-1]:
            if type(value) is list:
                stack.append(iter(value))
                break
            yield value
        else:
            stack.pop()
