"""Catalogs of documents, built and read in one step."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pushrail_stream.core.signals import Signal
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry.catalog import Catalog, CatalogChange
from pushrail_stream.registry.documents import Parsed, parse_document
from pushrail_stream.registry.folder import Folder
from pushrail_stream.registry.json_document import Problem
from pushrail_stream.registry.watcher import RegistryWatcher
from tests.support.patience import PATIENCE_SECS


def parse(name: str, content: bytes) -> Parsed | tuple[Problem, ...]:
    del name
    return parse_document(content, environ={}, default_max_in_flight=8)


def change(name: str, content: dict[str, Any] | bytes | None) -> DocumentChange:
    return DocumentChange(name, json.dumps(content).encode() if isinstance(content, dict) else content)


def loaded(**documents: dict[str, Any] | bytes) -> tuple[Catalog, CatalogChange]:
    catalog = Catalog(parse)
    return catalog, catalog.apply(change(name, content) for name, content in documents.items())


def ids(catalog: Catalog) -> list[str]:
    return [destination.id for destination in catalog]


@asynccontextmanager
async def followed(path: Path) -> AsyncIterator[tuple[Catalog, list[Signal], asyncio.Event]]:
    """A registry on this folder, kept up to date; the event is set at every signal."""
    catalog, signals, changed = Catalog(parse), list[Signal](), asyncio.Event()

    def observe(signal: Signal) -> None:
        signals.append(signal)
        changed.set()

    registry = RegistryWatcher(catalog, Folder(path))
    await registry.load(observe)
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(registry.follow(observe))
        yield catalog, signals, changed
        keeping.cancel()


async def until_told(signals: list[Signal], changed: asyncio.Event, kind: type[Signal]) -> Signal:
    async with asyncio.timeout(PATIENCE_SECS):
        while True:
            for signal in signals:
                if isinstance(signal, kind):
                    return signal
            changed.clear()
            await changed.wait()
