"""The live registry: a catalog that keeps up with where its documents come from."""

from __future__ import annotations

import asyncio
from typing import Final, final

from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused, RegistryChanged, RegistryTrouble
from pushrail_stream.ports import Documents, Observer
from pushrail_stream.registry.catalog import Catalog, CatalogChange
from pushrail_stream.registry.findings import RegistryError

_RETRY_SECS: Final = 5.0
"""Until what could not be read is read again, and what could not be opened is tried again."""


@final
class LiveRegistry:
    """Reads everything there is, then follows what changes."""

    def __init__(self, catalog: Catalog, documents: Documents) -> None:
        self._catalog = catalog
        self._documents = documents
        self._applying = asyncio.Lock()

    async def start(self, observe: Observer) -> None:
        """Return when every document there is has been read; raises `RegistryError` when that cannot be."""
        await self._take_in(observe)

    async def keep(self, observe: Observer) -> None:
        """Follow changes until cancelled. What cannot be read changes nothing and is told of."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(observe))
            tasks.create_task(self._open_later(observe))

    async def _follow(self, observe: Observer) -> None:
        while True:
            try:
                await self._take_in(observe)
            except RegistryError as error:
                observe(RegistryTrouble(str(error)))
                await asyncio.sleep(_RETRY_SECS)

    async def _take_in(self, observe: Observer) -> None:
        changes = await self._documents.changes()
        async with self._applying:
            # Parsing ten thousand documents takes seconds: not on the event loop.
            self._tell(observe, await asyncio.to_thread(self._catalog.apply, changes))

    async def _open_later(self, observe: Observer) -> None:
        """Try documents again that want only for a key, which may come by itself."""
        while True:
            await asyncio.sleep(_RETRY_SECS)
            async with self._applying:
                if self._catalog.waiting:
                    change = await asyncio.to_thread(self._catalog.apply, self._catalog.waiting)
                    still = {document.name for document in self._catalog.waiting}
                    new = tuple(refusal for refusal in change.refusals if refusal.file not in still)
                    if change.put or new:
                        self._tell(observe, change._replace(refusals=new))

    def _tell(self, observe: Observer, change: CatalogChange) -> None:
        for refusal in change.refusals:
            observe(DocumentRefused(*refusal))
        for caveat in change.caveats:
            observe(DocumentCaveat(*caveat))
        observe(RegistryChanged(change.put, change.removed, len(self._catalog), self._catalog.bad))
