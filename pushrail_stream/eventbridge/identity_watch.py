"""The watch on our own credentials: a worker tells that they cannot be used before an event has to wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, final

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.signals import OwnCredentialsFailed, OwnCredentialsFound, RegistryChanged, Signal
from pushrail_stream.eventbridge.error_codes import CallFailed
from pushrail_stream.ports.pipeline import Observer
from pushrail_stream.settings.eventbridge import needs_our_credentials

_CHECK_SECS: Final = 60.0
"""Seconds between two checks of credentials that work. Each costs one call of STS."""
_FAILED_SECS: Final = 10.0
"""Seconds between two checks of credentials that do not work."""


@final
class OwnCredentialsWatch:
    """Checks our own credentials again and again while they assume a destination's role, or sign its calls."""

    def __init__(
        self, check: Callable[[], Awaitable[CallFailed | None]], find: Callable[[str], Destination | None]
    ) -> None:
        """``find``: the destination of an id."""
        self.problem = ""
        """Why our own credentials cannot be used; empty while they work, or while no destination needs them."""
        self._check = check
        self._find = find
        self._in_need: dict[str, None] = {}
        """Ids of enabled destinations that need our credentials."""
        self._needed = asyncio.Event()

    def __call__(self, signal: Signal) -> None:
        """Learn from changes of documents which destinations need our credentials."""
        if not isinstance(signal, RegistryChanged):
            return
        for name in (*signal.put, *signal.removed):
            found = self._find(name)
            if found is not None and found.enabled and needs_our_credentials(found):
                self._in_need[name] = None
            else:
                self._in_need.pop(name, None)
        if self._in_need:
            self._needed.set()
        else:
            self._needed.clear()

    def destinations(self) -> Iterator[Destination]:
        """The enabled destinations that need our credentials."""
        return (found for name in self._in_need if (found := self._find(name)) is not None)

    async def keep(self, observe: Observer) -> None:
        """Check until cancelled, and tell each failure and its end."""
        while True:
            if not self._in_need:
                self._tell(None, observe)
                await self._needed.wait()
            self._tell(await self._check(), observe)
            await asyncio.sleep(_FAILED_SECS if self.problem else _CHECK_SECS)

    def _tell(self, failed: CallFailed | None, observe: Observer) -> None:
        if failed is not None:
            self.problem = f"{failed.code}: {failed.message}"
            observe(OwnCredentialsFailed(failed.code, failed.message))
        elif self.problem:
            self.problem = ""
            observe(OwnCredentialsFound())
