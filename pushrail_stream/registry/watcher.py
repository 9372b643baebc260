"""The watcher of the registry: it applies changes of documents to the catalog.

Decrypting a sealed secret may take long, because KMS is remote: documents that hold one are read beside the others,
which never wait for them. Changes of one document are applied in their order.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, final

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.core.signals import RegistryChanged, RegistryTrouble, Signal
from pushrail_stream.errors import OperatorError, TopicRecreated
from pushrail_stream.ports.documents import DocumentChange, DocumentSource
from pushrail_stream.registry.catalog import Catalog, CatalogChange, is_sealed

if TYPE_CHECKING:
    from pushrail_stream.ports.pipeline import Observer

_RETRY_SECS: Final = 5.0
"""Time until the source is read again after a failure, and until secrets that did not open are tried again."""


@final
class RegistryWatcher:
    """Loads every document, then follows their changes."""

    def __init__(self, catalog: Catalog, documents: DocumentSource) -> None:
        self._catalog = catalog
        self._documents = documents
        self._lock = asyncio.Lock()
        self._sealed: list[DocumentChange] = []
        self._decrypting: frozenset[str] = frozenset()
        """Names of documents whose secrets are being decrypted."""
        self._woken = asyncio.Event()

    async def load(self, observe: Observer) -> None:
        """Return when every document there is has been read; raises `OperatorError` when that cannot be."""
        # Reading ten thousand documents takes seconds: not on the event loop.
        self._report(observe, await in_daemon_thread(self._catalog.apply, await self._documents.changes()))

    async def follow(self, observe: Observer) -> None:
        """Follow changes until cancelled. A source that cannot be read changes nothing and is reported."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow(observe))
            tasks.create_task(self._decrypt(observe))

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
            async with self._lock:
                # Later changes of a document whose secret is being decrypted wait for their turn.
                late = {change.name for change in self._sealed} | self._decrypting
                late |= {change.name for change in changes if is_sealed(change)}
                if sealed := [change for change in changes if change.name in late]:
                    self._sealed += sealed
                    self._woken.set()
                if at_once := [change for change in changes if change.name not in late]:
                    self._report(observe, await in_daemon_thread(self._catalog.apply, at_once))

    async def _decrypt(self, observe: Observer) -> None:
        """Decrypt sealed documents, and try those again whose key may still appear."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_SECS):
                    await self._woken.wait()
            self._woken.clear()
            async with self._lock:
                new, self._sealed = self._sealed, []
                names = {change.name for change in new}
                again = [change for change in self._catalog.waiting if change.name not in names]
                self._decrypting = frozenset(names | {change.name for change in again})
            if not self._decrypting:
                continue
            read = await in_daemon_thread(self._catalog.read, [*again, *new])
            async with self._lock:
                change = await in_daemon_thread(self._catalog.take, read)
                self._decrypting = frozenset()
                # The refusals of documents that are tried again were reported before.
                still = {document.name for document in self._catalog.waiting} - names
                change = change._replace(refusals=tuple(r for r in change.refusals if r.document not in still))
                if new or change.put or change.refusals:
                    self._report(observe, change)

    def _report(self, observe: Observer, change: CatalogChange) -> None:
        changed = RegistryChanged(change.put, change.removed, len(self._catalog), self._catalog.bad)
        signals: list[Signal] = [*change.refusals, *change.caveats, changed]
        for signal in signals:
            observe(signal)
