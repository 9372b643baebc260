"""The state that Python keeps for each thread: simulated threads share one thread, and take turns with it."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

ThreadContext = tuple[asyncio.AbstractEventLoop | None, Any, Any]
"""The state that Python keeps per thread of the operating system: the running loop and the hooks of its generators."""
NO_LOOP: Final[ThreadContext] = (None, None, None)
"""The state of a thread without a loop, as the scheduler's own."""


def restore(context: ThreadContext) -> None:
    """Give the running thread of the operating system this state."""
    asyncio._set_running_loop(context[0])
    sys.set_asyncgen_hooks(context[1], context[2])


def save() -> ThreadContext:
    """The present state. The scheduler's own, which has no loop, comes in its place."""
    firstiter, finalizer = sys.get_asyncgen_hooks()
    context = (asyncio._get_running_loop(), firstiter, finalizer)
    restore(NO_LOOP)
    return context
