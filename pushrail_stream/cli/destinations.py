"""``pushrail-stream destinations``: customers' buses and their documents."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from pushrail_stream.cli.onboard import onboard
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import Cell, as_json, document, emit, format_time, note, say, to_the_end
from pushrail_stream.core.bus_status import explain
from pushrail_stream.core.destination import Destination, Secret
from pushrail_stream.errors import UsageError
from pushrail_stream.eventbridge.verify import Step
from pushrail_stream.operations.destination_health import DestinationHealth, read_health
from pushrail_stream.operations.destinations import (
    check_documents,
    find_destination,
    load_documents,
    test_destination,
)  # fmt: skip
from pushrail_stream.operations.document_changes import delete_document, put_document, seal_secret, unusable
from pushrail_stream.registry.catalog import Catalog
from pushrail_stream.registry.documents import to_document
from pushrail_stream.settings.eventbridge import auth_of
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.values import Arn

_MARKS: Final = {"ok": "ok", "warning": "WARNING", "failed": "FAILED", "unknown": "unknown"}
_COLUMNS: Final = ("id", "customer", "vendor", "bus", "region", "auth", "enabled", "filter")
_SECRET: Final = re.compile(r"[!-~]{1,512}")


@click.group(epilog="Example: pushrail-stream destinations list")
def destinations() -> None:
    """List, check, test and change destinations: customers' buses and their documents."""


@destinations.command("list", epilog="Example: pushrail-stream destinations list --state")
@click.option("--state", is_flag=True, help="Show also each destination's state, by the last hour of the delivery log.")
@common_options
def list_(options: Options, *, state: bool) -> None:
    """List every destination. Refused documents are named on stderr.

    A destination's state comes from its attempts since its last delivery, the worst one first: gone (its bus does not
    exist), suspended, blocked, slowed (it throttles), retrying, or ok; it is empty without attempts. For a bus
    that does not exist, the list also shows when it was last seen, how many deliveries were reported as delivered since
    then, and the command that sends them again.

    With --json: one document a line, secrets masked; with --state one object with id, state, code and since a line, and
    for a missing bus missingSince, lastSeen, deliveredSince and replay.
    """
    directory = _load(options.settings)
    if state:
        _list_states(options, directory)
        return
    options.table(_COLUMNS, map(_row, directory), map(to_document, directory))


@destinations.command(epilog="Example: pushrail-stream destinations show dst_acme_8K2zRq")
@click.argument("destination_id", metavar="ID")
@common_options
def show(options: Options, destination_id: str) -> None:
    """Print one destination's document with every default, and the secret masked."""
    settings = options.settings
    directory = _load(settings)
    destination = directory.get(destination_id)
    if destination is None or directory.is_refused(destination_id):
        raise unusable(settings, destination_id)
    if options.json:
        emit(to_document(destination))
        return
    note(f"document: {directory.document_of(destination_id)}")
    document(to_document(destination))


@destinations.command(epilog="Example: pushrail-stream destinations validate config/destinations/acme-8K2zRq.json")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@common_options
def validate(options: Options, files: tuple[Path, ...]) -> None:
    """Check documents: these FILES, or all of the registry. The command exits 2 when one is refused.

    With --json: one object with accepted, refused, refusals and warnings.
    """
    settings = options.settings
    found = check_documents(settings, files) if files else load_documents(settings)
    refused = {refusal.document for refusal in found.refusals}
    warnings = [caveat for caveat in found.caveats if caveat.document not in refused]
    with to_the_end():
        options.answer(
            {
                "accepted": len(found.used - refused),
                "refused": len(refused),
                "refusals": [as_json(refusal) for refusal in found.refusals],
                "warnings": [as_json(caveat) for caveat in warnings],
            },
            *(f"refused: {refusal}" for refusal in found.refusals),
            *(f"warning: {caveat}" for caveat in warnings),
            f"{len(found.used - refused)} accepted, {len(refused)} refused",
        )
    if refused:
        click.get_current_context().exit(2)


@destinations.command("test", epilog="Example: pushrail-stream destinations test dst_acme_8K2zRq")
@click.argument("destination_id", metavar="ID")
@common_options
def test(options: Options, *, destination_id: str) -> None:
    """Test a destination step by step: credentials, AssumeRole, the refusal of a wrong and of a missing external ID,
    the bus, and a test event (eventType pushrail.test). A disabled destination can be tested too.

    The command exits 1 when a step failed; a warning or an unknown result is no failure. With --json: one object with
    id, ok, enabled and steps (name, result, message, eventId, requestId).
    """
    destination = find_destination(options.settings, destination_id, note)
    steps = test_destination(options.settings, destination, (lambda _: None) if options.json else _print_step)
    is_ok, enabled = all(step.result != "failed" for step in steps), destination.enabled
    if options.json:
        emit({"id": destination_id, "ok": is_ok, "enabled": enabled, "steps": [_step_as_json(step) for step in steps]})
    elif is_ok and not enabled:
        mend = "correct the warnings, then " if any(step.result == "warning" for step in steps) else ""
        note(f'it works; {mend}set "enabled" to true in the document to begin')
    if not is_ok:
        click.get_current_context().exit(1)


def _print_step(step: Step) -> None:
    known = {"event id": step.event_id, "request id": step.request_id}
    ids = "".join(f", {name} {value}" for name, value in known.items() if value)
    say(f"{_MARKS[step.result]:8} {step.name:18} {step.message}{ids}")


def _step_as_json(step: Step) -> dict[str, object]:
    fields = dataclasses.asdict(step)
    return fields | {"eventId": fields.pop("event_id"), "requestId": fields.pop("request_id")}


destinations.add_command(onboard)


@destinations.command(epilog="Example: pushrail-stream destinations put acme-8K2zRq.json")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Check the document, and write nothing.")
@common_options
def put(options: Options, *, file: BinaryIO, dry_run: bool) -> None:
    """Put a destination document (FILE, or - for standard input) into the registry, new or in place of an old one.

    The document is checked first, by itself and beside the others: one that would be refused is not written (exit code
    2). Workers follow within 5 s. A document whose secret is sealed next has "env:TO_BE_SEALED" in its place.
    """
    done = put_document(options.settings, getattr(file, "name", "-"), file.read(), is_dry_run=dry_run)
    _report(options, done.destination_id, ("would be " if dry_run else "") + done.effect, done.name)


@destinations.command(epilog="Example: pushrail-stream destinations delete dst_acme_8K2zRq")
@click.argument("destination_id", metavar="ID")
@click.option("--dry-run", is_flag=True, help="Name the document that would be deleted.")
@common_options
def delete(options: Options, *, destination_id: str, dry_run: bool) -> None:
    """Delete a destination's document from the registry. Its waiting deliveries settle as skipped (deleted).

    ID is the destination's id, or the name of its document, which may be a refused one.
    """
    name = delete_document(options.settings, destination_id, is_dry_run=dry_run)
    _report(options, destination_id, "would be deleted" if dry_run else "deleted", name)


@destinations.command(epilog="Example: pushrail-stream destinations seal dst_acme_8K2zRq < secret.txt")
@click.argument("destination_id", metavar="ID")
@click.argument("surplus", nargs=-1, metavar="", type=click.UNPROCESSED)
@click.option("--access-key-id", help="Replace the access key id as well, when it changes with the secret.")
@click.option("--dry-run", is_flag=True, help="Check everything, and write nothing.")
@common_options
def seal(
    options: Options, *, destination_id: str, surplus: tuple[str, ...], access_key_id: str | None, dry_run: bool
) -> None:  # fmt: skip
    """Seal the secret access key of a destination and write it into its document.

    The command asks for the secret or reads it from standard input; there is no option for it, so that no shell
    remembers it. The keyring's primary key encrypts it for this destination alone: in another document it does not
    open. Key id and secret change in one step; batches in flight end with the old pair.

    The document exists before: in the folder it may lack the secret, and `destinations put` takes one that has
    "env:TO_BE_SEALED" in its place.
    """
    if surplus:
        # Not quoted: it may be the secret.
        raise UsageError("takes one ID and nothing else: the secret is asked for, or read from standard input")
    name, key = seal_secret(options.settings, destination_id, _read_secret, access_key_id, is_dry_run=dry_run)
    effect = "would be sealed" if dry_run else "sealed"
    options.answer(
        {"id": destination_id, "result": effect, "document": name, "key": key},
        f"{destination_id}: {effect} by key {key} ({name})",
    )


def _read_secret() -> Secret:
    is_person = sys.stdin.isatty()
    try:
        text: str = click.prompt("Secret access key", hide_input=True, err=True) if is_person else sys.stdin.read()
    except UnicodeDecodeError:
        text = ""
    if not _SECRET.fullmatch(text.strip()):
        raise UsageError("the secret: must be one word of 1 to 512 printable ASCII characters")
    return Secret(text.strip())


def _report(options: Options, destination_id: str, effect: str, name: str) -> None:
    options.answer({"id": destination_id, "result": effect, "document": name}, f"{destination_id}: {effect} ({name})")


def _list_states(options: Options, directory: Catalog) -> None:
    with options.progress() as progress:
        known = read_health(options.settings, progress)
    found = [(destination, known.get(destination.id)) for destination in directory]
    options.table(
        (*_COLUMNS, "state", "code", "since"),
        ((*_row(d), *((h.state, h.code, format_time(h.since_ms)) if h else ("", "", ""))) for d, h in found),
        (_state(destination.id, health) for destination, health in found),
    )
    for destination, health in found:
        if health is not None and health.bus is not None and not options.json:
            effect = explain(destination.id, health.bus, health.swallowed)
            say(f"{destination.id}: its bus is missing since {format_time(health.bus.since_ms)}; {effect}")


def _state(destination_id: str, health: DestinationHealth | None) -> dict[str, Any]:
    if health is None:
        return {"id": destination_id, "state": None, "code": None, "since": None}
    said = {"id": destination_id, "state": health.state, "code": health.code, "since": format_time(health.since_ms)}
    if health.bus is None:
        return said
    lost = health.swallowed
    return said | {
        "missingSince": format_time(health.bus.since_ms),
        "lastSeen": format_time(health.bus.last_seen_ms) or None,
        "deliveredSince": lost.deliveries if lost else 0,
        "replay": lost.replay_command(destination_id) if lost else None,
    }


def _load(settings: Settings) -> Catalog:
    """The registry's destinations, their secrets sealed; the problems of documents go to stderr."""
    catalog, refusals, caveats = load_documents(settings, decrypt=False)
    for refusal in refusals:
        note(f"refused: {refusal}")
    for caveat in caveats:
        note(f"warning: {caveat}")
    return catalog


def _row(destination: Destination) -> tuple[Cell, ...]:
    return (
        destination.id,
        destination.customer_external_id,
        destination.vendor,
        Arn.of(destination.bus.arn).name,
        destination.bus.region,
        auth_of(destination).label,
        destination.enabled,
        ", ".join(destination.event_types) or "*",
    )
