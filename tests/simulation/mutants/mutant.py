"""A mutant: the product with one deliberate fault, which the simulation must find.

A mutant replaces a piece of a function's text and puts the new code into the same function object, so that every
reference to the function meets it: imported names, bound methods and properties. Its end puts the old code back.
"""

from __future__ import annotations

import importlib
import inspect
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, Final

_ANNOTATIONS: Final = annotations.compiler_flag
"""The package's modules are compiled with this flag, too."""


class StaleMutantError(Exception):
    """The product has changed, and the mutant's target or its text is no longer there."""


@dataclass(frozen=True)
class Change:
    """A change of one function."""

    target: str
    """``MODULE:NAME`` below the package, as ``core.offsets:OffsetTracker.track``."""
    old: str
    """A piece of the function's text, without the function's own indentation. It occurs exactly once."""
    new: str

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The function has the fault while the block lasts. Raises `StaleMutantError`."""
        function = self._find()
        before = function.__code__
        function.__code__ = self._mutate(function)
        try:
            yield
        finally:
            function.__code__ = before

    def _find(self) -> FunctionType:
        module, _, path = self.target.partition(":")
        try:
            found: Any = importlib.import_module(f"pushrail_stream.{module}")
            for name in path.split("."):
                found = inspect.getattr_static(found, name)
        except (ImportError, AttributeError) as error:
            raise StaleMutantError(f"{self.target}: {error}") from error
        if isinstance(found, property):
            found = found.fget
        if isinstance(found, classmethod | staticmethod):
            found = found.__func__
        found = inspect.unwrap(found)
        if not isinstance(found, FunctionType):
            raise StaleMutantError(f"{self.target} is no function")
        return found

    def _mutate(self, function: FunctionType) -> CodeType:
        text = textwrap.dedent(inspect.getsource(function))
        if (found := text.count(self.old)) != 1:
            raise StaleMutantError(f"{self.target} has {found} times: {self.old}")
        whole = compile(text.replace(self.old, self.new), self.target, "exec", _ANNOTATIONS, dont_inherit=True)
        code = next(one for one in whole.co_consts if isinstance(one, CodeType) and one.co_name == function.__name__)
        if code.co_freevars != function.__code__.co_freevars:
            raise StaleMutantError(f"{self.target} uses variables of an enclosing function")
        return code


@dataclass(frozen=True)
class Mutant:
    """A named fault of the product, of one change or of several that only together are a fault."""

    name: str
    changes: tuple[Change, ...]
    profile: str = "calm"
    """The profile of the stories that search for it. Calm ones are short: `needs` brings the troubles that matter."""
    needs: tuple[str, ...] = ()
    """Kinds of troubles and faults without which it changes nothing. Every story that searches for it has them."""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The product has the fault while the block lasts. Raises `StaleMutantError`."""
        with ExitStack() as stack:
            for change in self.changes:
                stack.enter_context(change.applied())
            yield


def mutant(name: str, target: str, old: str, new: str, *, profile: str = "calm", needs: Sequence[str] = ()) -> Mutant:
    """A mutant of one change."""
    return Mutant(name, (Change(target, old, new),), profile, tuple(needs))
