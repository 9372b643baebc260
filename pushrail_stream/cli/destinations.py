"""``pushrail-stream destinations``: customers' buses and their documents."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from pushrail_stream.cli.documents import delete, put, unusable
from pushrail_stream.cli.onboard import onboard
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import document, emit, note, say, table, to_the_end
from pushrail_stream.cli.progress import Bar
from pushrail_stream.cli.reading import read_topic
from pushrail_stream.cli.seal import seal
from pushrail_stream.cli.times import now_ms, shown
from pushrail_stream.cli.trial import test
from pushrail_stream.core.bus_status import MissingBus, explain
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.signals import DocumentCaveat, DocumentRefused
from pushrail_stream.documents import document_parser, load_registry
from pushrail_stream.operations.attempts import read_attempt
from pushrail_stream.operations.destination_health import DestinationHealth, HealthReport, SwallowedDeliveries
from pushrail_stream.registry import Catalog, Caveat, Refusal, to_document
from pushrail_stream.registry.folder import document_files, read_document
from pushrail_stream.settings import Settings
from pushrail_stream.settings.eventbridge import AccessKey, AssumeRole, auth_of

_STATE_MS: Final = 3_600_000
"""How far back a destination's state is looked for."""
_COLUMNS: Final = ("id", "customer", "vendor", "bus", "region", "auth", "enabled", "filter")


@click.group(epilog="Example: pushrail-stream destinations list")
def destinations() -> None:
    """Customers' buses and their documents."""


@destinations.command("list", epilog="Example: pushrail-stream destinations list --state")
@click.option("--state", is_flag=True, help="Also how each stands, by the last hour of the delivery log.")
@common_options
def list_(options: Options, *, state: bool) -> None:
    """List every destination; documents that were refused are named on stderr.

    A state is derived from the log since the destination's last delivery, the worst first: gone (its bus does not
    exist), suspended, blocked, slowed (it throttles), retrying, or delivering; nothing where nothing was tried. For a
    bus that does not exist, the list says when it was last seen, how many deliveries were reported as delivered since
    then, and the command that sends them again.

    With --json: one document a line, secrets masked; with --state one object with id, state, code and since a line, and
    for a missing bus missingSince, lastSeen, deliveredSince and replay.
    """
    directory = _load(options.settings)
    if state:
        _list_states(options, directory)
        return
    if options.json:
        for destination in directory:
            emit(to_document(destination))
        return
    table(_COLUMNS, (_row(destination) for destination in directory))


@destinations.command(epilog="Example: pushrail-stream destinations show dst_acme_8K2zRq")
@click.argument("destination_id", metavar="ID")
@common_options
def show(options: Options, destination_id: str) -> None:
    """Print one destination's document, every default spelt out and the secret masked."""
    settings = options.settings
    directory = _load(settings)
    destination = directory.get(destination_id)
    if destination is None or directory.is_refused(destination_id):
        raise asyncio.run(unusable(settings, destination_id))
    if options.json:
        emit(to_document(destination))
        return
    note(f"document: {directory.document_of(destination_id)}")
    document(to_document(destination))


@destinations.command(epilog="Example: pushrail-stream destinations validate config/destinations/acme-8K2zRq.json")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@common_options
def validate(options: Options, files: tuple[Path, ...]) -> None:
    """Check documents: these FILES, or all of the registry. Exits 2 when one is refused.

    With --json: one object with accepted, refused, refusals and warnings.
    """
    settings = options.settings
    found = _check(settings, files) if files else _check_registry(settings)
    refused = {refusal.file for refusal in found.refusals}
    warnings = [caveat for caveat in found.caveats if caveat.file not in refused]
    with to_the_end():
        if options.json:
            emit({
                "accepted": len(found.used - refused),
                "refused": len(refused),
                "refusals": [refusal._asdict() for refusal in found.refusals],
                "warnings": [caveat._asdict() for caveat in warnings],
            })  # fmt: skip
        else:
            for refusal in found.refusals:
                say(f"refused: {refusal}")
            for caveat in warnings:
                say(f"warning: {caveat}")
            say(f"{len(found.used - refused)} accepted, {len(refused)} refused")
    if refused:
        click.get_current_context().exit(2)


destinations.add_command(onboard)
destinations.add_command(seal)
destinations.add_command(put)
destinations.add_command(delete)
destinations.add_command(test)


def _list_states(options: Options, directory: Catalog) -> None:
    report, since_ms = HealthReport(), now_ms() - _STATE_MS
    with Bar("attempts", quiet=options.json) as bar:
        for record in read_topic(options.settings, options.settings.topics.attempts, bar, since_ms=since_ms):
            attempt = read_attempt(record.value)
            if attempt is not None and attempt.at_ms >= since_ms:
                report.take(attempt)
    swallowed = _swallowed(options, report.missing(), since_ms)
    found = [(destination, report.of(destination.id)) for destination in directory]
    if options.json:
        for destination, health in found:
            emit(_state(destination.id, health, swallowed))
        return
    rows = ((*_row(d), *((s.state, s.code or "", shown(s.since_ms)) if s else ("", "", ""))) for d, s in found)
    table((*_COLUMNS, "state", "code", "since"), rows)
    for destination, health in found:
        if health is not None and health.bus is not None:
            told = explain(destination.id, health.bus, swallowed.of(destination.id))
            say(f"{destination.id}: its bus is missing since {shown(health.bus.since_ms)}; {told}")


def _swallowed(options: Options, missing: Mapping[str, MissingBus], since_ms: int) -> SwallowedDeliveries:
    """The deliveries that missing buses swallowed. Reads the delivery log again, as far back as needed."""
    swallowed = SwallowedDeliveries(missing, since_ms)
    if missing:
        topic = options.settings.topics.attempts
        with Bar("attempts", quiet=options.json) as bar:
            for record in read_topic(options.settings, topic, bar, since_ms=swallowed.since_ms):
                attempt = read_attempt(record.value)
                if attempt is not None:
                    swallowed.take(attempt)
    return swallowed


def _state(destination_id: str, health: DestinationHealth | None, swallowed: SwallowedDeliveries) -> dict[str, Any]:
    if health is None:
        return {"id": destination_id, "state": None, "code": None, "since": None}
    said = {"id": destination_id, "state": health.state, "code": health.code, "since": shown(health.since_ms)}
    if health.bus is None:
        return said
    lost = swallowed.of(destination_id)
    return said | {
        "missingSince": shown(health.bus.since_ms),
        "lastSeen": shown(health.bus.last_seen_ms) or None,
        "deliveredSince": lost.deliveries if lost else 0,
        "replay": lost.replay_command(destination_id) if lost else None,
    }


class _Findings(NamedTuple):
    used: set[str | None]
    """Names of documents."""
    refusals: Sequence[Refusal]
    caveats: Sequence[Caveat]


def _check(settings: Settings, paths: tuple[Path, ...]) -> _Findings:
    """A file stands for itself, a directory for its documents."""
    parse = document_parser(settings, os.environ)
    catalog = Catalog(lambda _, content: parse(content))
    files = [file for path in paths for file in (document_files(path) if path.is_dir() else [path])]
    change = catalog.apply(read_document(file) for file in dict.fromkeys(files))
    return _Findings(_used(catalog), change.refusals, change.caveats)


def _check_registry(settings: Settings) -> _Findings:
    catalog, signals = asyncio.run(load_registry(settings, os.environ))
    refusals = [Refusal(*signal) for signal in signals if isinstance(signal, DocumentRefused)]
    caveats = [Caveat(*signal) for signal in signals if isinstance(signal, DocumentCaveat)]
    return _Findings(_used(catalog), refusals, caveats)


def _used(catalog: Catalog) -> set[str | None]:
    return {catalog.document_of(destination.id) for destination in catalog}


def _load(settings: Settings) -> Catalog:
    """The registry's destinations, their secrets sealed; what is wrong with documents goes to stderr."""
    catalog, signals = asyncio.run(load_registry(settings, os.environ, decrypt=False))
    for signal in signals:
        match signal:
            case DocumentRefused():
                note(f"refused: {Refusal(*signal)}")
            case DocumentCaveat():
                note(f"warning: {Caveat(*signal)}")
            case _:
                pass
    return catalog


def _row(destination: Destination) -> tuple[str, ...]:
    return (
        destination.id,
        destination.customer_external_id,
        destination.vendor,
        destination.bus.partition(":event-bus/")[2],
        destination.region,
        _auth(destination),
        "yes" if destination.enabled else "no",
        ", ".join(destination.event_types) or "*",
    )


def _auth(destination: Destination) -> str:
    match auth_of(destination):
        case AssumeRole():
            return "role"
        case AccessKey(secret=None):
            return "key, secret missing"
        case AccessKey():
            return "key"
