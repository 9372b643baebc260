"""The event loops that the product runs on: asyncio's own, and uvloop's, whose transports are written anew."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Final

import pytest
import uvloop

_LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def on_every_loop(story: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of a coroutine function for each kind of loop. An error that a loop would only log fails the test."""

    @functools.wraps(story)
    def test(*args: Any, loop_name: str, **kwargs: Any) -> None:
        failures: list[dict[str, Any]] = []
        with asyncio.Runner(loop_factory=_LOOPS[loop_name]) as runner:
            runner.get_loop().set_exception_handler(lambda _, context: failures.append(context))
            runner.run(story(*args, **kwargs))
        assert not failures, failures

    signature = inspect.signature(story)
    named = inspect.Parameter("loop_name", inspect.Parameter.KEYWORD_ONLY)
    test.__signature__ = signature.replace(parameters=[*signature.parameters.values(), named])  # type: ignore[attr-defined]
    marked: Callable[..., None] = pytest.mark.parametrize("loop_name", _LOOPS)(test)
    return marked
