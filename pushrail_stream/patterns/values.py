"""Values of a pattern: the alternatives for one field, each a value or an operator.

A test gets one leaf of an event: a string, a number, true, false or null. It is never asked about a field that is
absent, nor about an object: operators look at leaves only.
"""

from __future__ import annotations

import ipaddress
import operator
from collections.abc import Callable
from typing import Any, Final, NamedTuple

Test = Callable[[Any], bool]
"""Tells whether a value of the event matches."""

_KINDS: Final = {str: "text", int: "number", float: "number", bool: "constant", type(None): "constant"}
_COMPARISONS: Final = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_LOWER, _UPPER = frozenset({">", ">="}), frozenset({"<", "<="})
_PAIR, _RANGE = 2, 4
"""Lengths of a numeric operand: one comparison, or a lower and an upper bound."""


class PatternError(ValueError):
    """A pattern is wrong. ``path`` leads to the place; ``problem`` is a sentence without values."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path or 'the pattern'}: {problem}")
        self.path = path
        self.problem = problem


class Alternatives(NamedTuple):
    """The alternatives for one field."""

    tests: tuple[Test, ...]
    takes_any: bool
    """Whether any leaf will do (``exists: true``)."""
    takes_none: bool
    """Whether the field may be absent (``exists: false``)."""


def read_alternatives(values: list[Any], path: str) -> Alternatives:
    """The alternatives in the list of a pattern's field."""
    if not values:
        raise PatternError(path, "must not be empty")
    literals, tests, existence = set[tuple[str, Any]](), list[Test](), set[bool]()
    for number, value in enumerate(values):
        place = f"{path}[{number}]"
        if isinstance(value, list):
            raise PatternError(place, "must be a value or an operator, not a list")
        if not isinstance(value, dict):
            literals.add((_KINDS[type(value)], value))
        elif value.keys() == {"exists"}:
            existence.add(_boolean(value["exists"], f"{place}.exists"))
        else:
            tests.append(_operator(value, place, _OPERATORS, "exists"))
    if literals:
        tests.insert(0, _one_of(frozenset(literals)))
    return Alternatives(tuple(tests), True in existence, False in existence)


def _operator(value: dict[str, Any], path: str, known: dict[str, Callable[[Any, str], Test]], *others: str) -> Test:
    """The test of an object with one operator. ``others``: operators that are read elsewhere."""
    if len(value) != 1:
        raise PatternError(path, "must have exactly one operator")
    ((name, operand),) = value.items()
    if name not in known:
        raise PatternError(path, f"must have an operator out of {', '.join([*known, *others])}")
    return known[name](operand, f"{path}.{name}")


def _one_of(wanted: frozenset[tuple[str, Any]]) -> Test:
    # The kind comes first: Python takes True for 1.
    return lambda value: (_KINDS[type(value)], value) in wanted


def _text(operand: Any, path: str) -> str:
    if not isinstance(operand, str):
        raise PatternError(path, "must be a string")
    return operand


def _boolean(operand: Any, path: str) -> bool:
    if not isinstance(operand, bool):
        raise PatternError(path, "must be true or false")
    return operand


def _exactly(operand: Any, path: str) -> Test:
    return _one_of(frozenset({("text", _text(operand, path))}))


def _prefix(operand: Any, path: str) -> Test:
    return _affix(operand, path, str.startswith)


def _suffix(operand: Any, path: str) -> Test:
    return _affix(operand, path, str.endswith)


def _affix(operand: Any, path: str, compare: Callable[[str, str], bool]) -> Test:
    if not isinstance(operand, dict):
        text = _text(operand, path)
        return lambda value: type(value) is str and compare(value, text)

    def ignoring_case(inner: Any, place: str) -> Test:
        lower = _text(inner, place).lower()
        return lambda value: type(value) is str and compare(value.lower(), lower)

    return _operator(operand, path, {"equals-ignore-case": ignoring_case})


def _equals_ignore_case(operand: Any, path: str) -> Test:
    lower = _text(operand, path).lower()
    return lambda value: type(value) is str and value.lower() == lower


def _wildcard(operand: Any, path: str) -> Test:
    r"""``*`` stands for any characters; ``\*`` and ``\\`` are the characters themselves."""
    parts = _split_wildcard(_text(operand, path), path)
    first, *middle, last = parts if len(parts) > 1 else (parts[0], parts[0])
    if len(parts) == 1:
        return lambda value: type(value) is str and value == first

    def matches(value: Any) -> bool:
        if type(value) is not str or not (value.startswith(first) and value.endswith(last)):
            return False
        at, end = len(first), len(value) - len(last)
        for part in middle:  # the first place is the best one, so that nothing is tried twice
            at = value.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return at <= end

    return matches


def _split_wildcard(text: str, path: str) -> list[str]:
    parts, at = [""], 0
    while at < len(text):
        if text[at] == "\\":
            if text[at + 1 : at + 2] not in {"*", "\\"}:
                raise PatternError(path, r"must have a backslash only before * or another backslash")
            parts[-1] += text[at + 1]
            at += 2
            continue
        if text[at] != "*":
            parts[-1] += text[at]
        elif text[at - 1 : at] == "*" and at and parts[-1] == "" and len(parts) > 1:
            raise PatternError(path, "must not have two wildcards in a row")
        else:
            parts.append("")
        at += 1
    return parts


def _anything_but(operand: Any, path: str) -> Test:
    """Any leaf but these: strings or numbers, or those that one of some operators matches."""
    if isinstance(operand, dict):
        excluded = _operator(operand, path, {name: _any_of(one) for name, one in _EXCLUDING.items()})
        return lambda value: not excluded(value)
    values = operand if isinstance(operand, list) else [operand]
    kinds = {_KINDS.get(type(value)) for value in values}
    if kinds not in ({"text"}, {"number"}):
        problem = "must be a string or a number, a list of either, or one of " + ", ".join(_EXCLUDING)
        raise PatternError(path, problem)
    found = _one_of(frozenset((_KINDS[type(value)], value) for value in values))
    return lambda value: not found(value)


def _any_of(one: Callable[[Any, str], Test]) -> Callable[[Any, str], Test]:
    """The operator for a string, or for a list of strings."""

    def operator_on_list(operand: Any, path: str) -> Test:
        if operand in ("", []) or (isinstance(operand, list) and "" in operand):
            raise PatternError(path, "must not be empty")
        texts = operand if isinstance(operand, list) else [operand]
        tests = [one(_text(text, path), path) for text in texts]
        return lambda value: any(test(value) for test in tests)

    return operator_on_list


def _numeric(operand: Any, path: str) -> Test:
    wrong = PatternError(path, 'must be comparisons such as ["=", 5] or [">", 0, "<=", 5]')
    if not isinstance(operand, list) or len(operand) not in {_PAIR, _RANGE}:
        raise wrong
    signs, numbers = operand[::2], operand[1::2]
    if not all(isinstance(sign, str) and sign in _COMPARISONS for sign in signs):
        raise wrong
    if not all(_KINDS.get(type(number)) == "number" for number in numbers):
        raise wrong
    if len(operand) == _RANGE and not (signs[0] in _LOWER and signs[1] in _UPPER and numbers[0] < numbers[1]):
        raise PatternError(path, "must have a lower bound, and then an upper bound above it")
    bounds = [(_COMPARISONS[sign], number) for sign, number in zip(signs, numbers, strict=True)]
    return lambda value: _KINDS[type(value)] == "number" and all(compare(value, number) for compare, number in bounds)


def _cidr(operand: Any, path: str) -> Test:
    text = _text(operand, path)
    try:
        # Without a slash it would be a block of one address.
        network = ipaddress.ip_network(text if "/" in text else "", strict=False)
    except ValueError:
        raise PatternError(path, "must be a block of IP addresses such as 10.0.0.0/24 or 2001:db8::/32") from None

    def matches(value: Any) -> bool:
        if type(value) is not str:
            return False
        try:
            return ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return matches


_EXCLUDING: Final[dict[str, Callable[[Any, str], Test]]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _equals_ignore_case,
    "wildcard": _wildcard,
}
"""The operators that ``anything-but`` takes."""
_OPERATORS: Final[dict[str, Callable[[Any, str], Test]]] = {
    **_EXCLUDING,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "cidr": _cidr,
    "exactly": _exactly,
}
OPERATORS: Final = frozenset({*_OPERATORS, *_COMPARISONS, "exists"})
"""Names that no field inside ``$or`` may have."""
