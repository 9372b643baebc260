"""Tests step by step whether a destination is set up correctly."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused
from pushrail_stream.documents import load_registry
from pushrail_stream.eventbridge.verify import Step, verify
from pushrail_stream.operations.documents import unusable
from pushrail_stream.registry.errors import Refusal
from pushrail_stream.settings.model import Settings


def find_destination(settings: Settings, destination_id: str, note: Callable[[str], None]) -> Destination:
    """The destination of this id, in use or disabled. ``note`` gets the problems of its document.

    Raises `OperatorError` when the destination cannot be used.
    """
    catalog, signals = asyncio.run(load_registry(settings, os.environ))
    destination = catalog.get(destination_id)
    name = catalog.document_of(destination_id)
    for signal in signals:
        # A document that cannot be parsed has no id: without a document of this id, it may be any refused one.
        if isinstance(signal, DocumentRefused | DocumentCaveat) and name in {signal.document, None}:
            kind = "refused" if isinstance(signal, DocumentRefused) else "warning"
            note(f"{kind}: {Refusal(*signal)}")
    if destination is None or catalog.is_refused(destination_id):
        raise unusable(settings, destination_id)
    return destination


def test_destination(settings: Settings, destination: Destination, show: Callable[[Step], None]) -> list[Step]:
    """Run the test; ``show`` gets each step as soon as it is done."""

    async def run() -> list[Step]:
        steps = []
        async for step in verify(destination, settings.eventbridge, settings.sts):
            steps.append(step)
            show(step)
        return steps

    return asyncio.run(run())
