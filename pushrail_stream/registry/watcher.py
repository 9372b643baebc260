"""The live registry: a catalog that keeps up with where its documents come from.

What opens sealed secrets may be far away and silent (KMS): documents that hold one are opened beside the others, which
never wait for it. Changes of one document are taken in in their order.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final, final

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused, RegistryChanged, RegistryTrouble
from pushrail_stream.errors import OperatorError, TopicRecreated
from pushrail_stream.ports.documents import DocumentChange, DocumentSource
from pushrail_stream.ports.pipeline import Observer
from pushrail_stream.registry.catalog import Catalog, CatalogChange, is_sealed

_RETRY_SECS: Final = 5.0
"""Until what could not be read is read again, and what could not be opened is tried again."""


@final
class RegistryWatcher:
    """Reads everything there is, then follows what changes."""

    def __init__(self, catalog: Catalog, documents: DocumentSource) -> None:
        self._catalog = catalog
        self._documents = documents
        self._taking = asyncio.Lock()
        self._to_open: list[DocumentChange] = []
        self._opening: frozenset[str] = frozenset()
        """Names of documents that are being opened."""
        self._woken = asyncio.Event()

    async def load(self, observe: Observer) -> None:
        """Return when every document there is has been read; raises `OperatorError` when that cannot be."""
        # Reading ten thousand documents takes seconds: not on the event loop.
        self._tell(observe, await in_daemon_thread(self._catalog.apply, await self._documents.changes()))

    async def follow(self, observe: Observer) -> None:
        """Follow changes until cancelled. What cannot be read changes nothing and is told of."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(observe))
            tasks.create_task(self._open(observe))

    async def _follow(self, observe: Observer) -> None:
        while True:
            try:
                changes = await self._documents.changes()
            except TopicRecreated as error:
                observe(RegistryTrouble(str(error)))
                continue
            except OperatorError as error:
                observe(RegistryTrouble(str(error)))
                await asyncio.sleep(_RETRY_SECS)
                continue
            async with self._taking:
                # What comes behind a change that has to be opened waits for its turn.
                late = {change.name for change in self._to_open} | self._opening
                late |= {change.name for change in changes if is_sealed(change)}
                if to_open := [change for change in changes if change.name in late]:
                    self._to_open += to_open
                    self._woken.set()
                if at_once := [change for change in changes if change.name not in late]:
                    self._tell(observe, await in_daemon_thread(self._catalog.apply, at_once))

    async def _open(self, observe: Observer) -> None:
        """Open what comes sealed, and try again what wants only for a key, which may come by itself."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_SECS):
                    await self._woken.wait()
            self._woken.clear()
            async with self._taking:
                new, self._to_open = self._to_open, []
                names = {change.name for change in new}
                again = [change for change in self._catalog.waiting if change.name not in names]
                self._opening = frozenset(names | {change.name for change in again})
            if not self._opening:
                continue
            read = await in_daemon_thread(self._catalog.read, [*again, *new])
            async with self._taking:
                change = await in_daemon_thread(self._catalog.take, read)
                self._opening = frozenset()
                # That they do not open has been told of those that are tried again.
                still = {document.name for document in self._catalog.waiting} - names
                change = change._replace(refusals=tuple(r for r in change.refusals if r.file not in still))
                if new or change.put or change.refusals:
                    self._tell(observe, change)

    def _tell(self, observe: Observer, change: CatalogChange) -> None:
        for refusal in change.refusals:
            observe(DocumentRefused(*refusal))
        for caveat in change.caveats:
            observe(DocumentCaveat(*caveat))
        observe(RegistryChanged(change.put, change.removed, len(self._catalog), self._catalog.bad))
