"""The live registry: a catalog that keeps up with where its documents come from."""

from __future__ import annotations

import asyncio
from typing import Final, final

from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused, RegistryChanged, RegistryTrouble
from pushrail_stream.ports import Documents, Observer
from pushrail_stream.registry.catalog import Catalog, CatalogChange
from pushrail_stream.registry.findings import RegistryError

_RETRY_SECS: Final = 5.0


@final
class LiveRegistry:
    """Reads everything there is, then follows what changes."""

    def __init__(self, catalog: Catalog, documents: Documents) -> None:
        self._catalog = catalog
        self._documents = documents

    async def start(self, observe: Observer) -> None:
        """Return when every document there is has been read; raises `RegistryError` when that cannot be."""
        await self._take_in(observe)

    async def keep(self, observe: Observer) -> None:
        """Follow changes until cancelled. What cannot be read changes nothing and is told of."""
        while True:
            try:
                await self._take_in(observe)
            except RegistryError as error:
                observe(RegistryTrouble(str(error)))
                await asyncio.sleep(_RETRY_SECS)

    async def _take_in(self, observe: Observer) -> None:
        changes = await self._documents.changes()
        # Parsing ten thousand documents takes seconds: not on the event loop.
        self._tell(observe, await asyncio.to_thread(self._catalog.apply, changes))

    def _tell(self, observe: Observer, change: CatalogChange) -> None:
        for refusal in change.refusals:
            observe(DocumentRefused(*refusal))
        for caveat in change.caveats:
            observe(DocumentCaveat(*caveat))
        observe(RegistryChanged(change.put, change.removed, len(self._catalog), self._catalog.bad))
