"""``pushrail-stream destinations test``: whether a destination is set up right."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterable
from typing import Final

import click

from pushrail_stream.cli.documents import unusable
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, note, say
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused
from pushrail_stream.documents import load_registry
from pushrail_stream.eventbridge.verify import Step, verify
from pushrail_stream.registry import Refusal
from pushrail_stream.settings import Settings
from pushrail_stream.worker import eventbridge_options

_MARKS: Final = {"ok": "ok", "warning": "WARNING", "failed": "FAILED", "unknown": "unknown"}


@click.command("test", epilog="Example: pushrail-stream destinations test dst_acme_8K2zRq")
@click.argument("destination_id", metavar="ID")
@common_options
def test(options: Options, *, destination_id: str) -> None:
    """Try a destination step by step: credentials, AssumeRole, that a wrong and a missing external ID are refused, that
    the bus exists, and a test event (eventType pushrail.test). A disabled destination can be tried too.

    Exits 1 when a step failed; a warning or what cannot be told is no failure. With --json: one object with id, ok,
    enabled and steps (name, result, message, eventId, requestId).
    """
    settings = options.settings
    catalog, signals = asyncio.run(load_registry(settings, os.environ))
    destination = catalog.get(destination_id)
    name = catalog.document_of(destination_id)
    findings = [signal for signal in signals if isinstance(signal, DocumentRefused | DocumentCaveat)]
    # A document that cannot be read as one has no id to go by: it may be any of those that are refused.
    _remark_on(finding for finding in findings if name in {finding.document, None})
    if destination is None or catalog.is_refused(destination_id):
        raise asyncio.run(unusable(settings, destination_id))
    steps = asyncio.run(_run(destination, settings, quiet=options.json))
    ok = all(step.result != "failed" for step in steps)
    is_safe = all(step.result != "warning" for step in steps)
    if options.json:
        emit(
            {
                "id": destination_id,
                "ok": ok,
                "enabled": destination.enabled,
                "steps": [_as_json(step) for step in steps],
            }
        )
    elif ok and not destination.enabled:
        mend = "" if is_safe else "mend what is warned of, then "
        note(f'it works; {mend}set "enabled" to true in the document to begin')
    if not ok:
        click.get_current_context().exit(1)


def _remark_on(findings: Iterable[DocumentRefused | DocumentCaveat]) -> None:
    for finding in findings:
        kind = "refused" if isinstance(finding, DocumentRefused) else "warning"
        note(f"{kind}: {Refusal(*finding)}")


async def _run(destination: Destination, settings: Settings, *, quiet: bool) -> list[Step]:
    steps = []
    async for step in verify(destination, eventbridge_options(settings)):
        steps.append(step)
        if not quiet:
            known = {"event id": step.event_id, "request id": step.request_id}
            ids = "".join(f", {name} {value}" for name, value in known.items() if value)
            say(f"{_MARKS[step.result]:8} {step.name:18} {step.message}{ids}")
    return steps


def _as_json(step: Step) -> dict[str, object]:
    fields = dataclasses.asdict(step)
    return fields | {"eventId": fields.pop("event_id"), "requestId": fields.pop("request_id")}
