"""The destinations there are now, for commands that look back; documents that are refused are named on stderr."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from pushrail_stream.cli.output import note
from pushrail_stream.core.signals import DocumentRefused
from pushrail_stream.documents import load_registry
from pushrail_stream.registry import DestinationIndex
from pushrail_stream.settings import Settings

_NAMED: Final = 10
"""Refused documents that are named, each with its first problem."""


def known_destinations(settings: Settings) -> tuple[DestinationIndex, tuple[str, ...]]:
    """The destinations in use, and the documents that stand for none: theirs look as if they had been deleted.

    A worker that runs may still use the last good version of such a document. Raises `UsageError`.
    """
    catalog, signals = asyncio.run(load_registry(settings, os.environ, decrypt=False))
    used = {catalog.document_of(destination.id) or "": destination for destination in catalog}
    refused: dict[str, DocumentRefused] = {}
    for signal in signals:
        if isinstance(signal, DocumentRefused) and signal.document not in used:
            refused.setdefault(signal.document, signal)
    for document, field, problem in list(refused.values())[:_NAMED]:
        note(f"refused: {document}: {field}{': ' if field else ''}{problem}")
    if len(refused) > _NAMED:
        note(f"refused: {len(refused) - _NAMED} documents more (`destinations validate`)")
    return DestinationIndex(used.items()), tuple(refused)
