"""``pushrail-stream destinations``: customers' buses and their documents."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pushrail_stream.cli import backup, documents, resuming
from pushrail_stream.cli.backlog import backlog_as_json, explain_backlog
from pushrail_stream.cli.onboard import onboard
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import (
    Cell,
    Column,
    as_json,
    emit,
    format_time,
    note,
    printable,
    say,
    to_the_end,
)
from pushrail_stream.core.bus_status import explain
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.destination_state import DISABLED, PAUSED, STATES
from pushrail_stream.settings.eventbridge import FLAVOURS

if TYPE_CHECKING:
    from pushrail_stream.eventbridge.verify import Step
    from pushrail_stream.operations.destination_health import SeenState
    from pushrail_stream.registry.catalog import Catalog
    from pushrail_stream.settings.model import Settings

_MARKS: Final = {"ok": "ok", "warning": "WARNING", "failed": "FAILED", "unknown": "unknown"}
_COLUMNS: Final = (
    "id", Column("customer", drop=6), Column("vendor", drop=2), Column("bus", drop=4), Column("region", drop=1),
    Column("auth", drop=3), Column("enabled", drop=5), Column("format", drop=3), Column("filter", "prose"),
)  # fmt: skip
_STATE_COLUMNS: Final = (
    *_COLUMNS[:-1], Column("filter", "prose", drop=1), Column("state", "status"), Column("code", drop=8),
    Column("since", "time", drop=7), Column("events behind", drop=9),
)  # fmt: skip
_ANY_STATE: Final = "any"
"""The value of ``--state`` without one."""


@click.group(epilog="Example: pushrail-stream destinations list")
def destinations() -> None:
    """List, check, test and change destinations: customers' buses and their documents."""


@destinations.command("list", epilog="Example: pushrail-stream destinations list --customer acct_8K2zRq --state")
@click.option("--customer", metavar="ID", help="Only destinations of this customer (customerExternalId).")
@click.option("--vendor", help="Only destinations of this vendor.")
@click.option(
    "--type", type=click.Choice(tuple(FLAVOURS), case_sensitive=False), help="Only destinations of this type."
)
@click.option(
    "--mode", type=click.Choice(("ASSUME_ROLE", "ACCESS_KEY"), case_sensitive=False),
    help="Only destinations with this way to sign in (auth.mode).",
)  # fmt: skip
@click.option("--enabled/--disabled", default=None, help="Only enabled destinations, or only disabled ones.")
@click.option(
    "--state", is_flag=False, flag_value=_ANY_STATE, type=click.Choice((*STATES, DISABLED, PAUSED, _ANY_STATE)),
    help="Show also each destination's state, by workers and the delivery log; with a value, only destinations in this "
    "state.",
)  # fmt: skip
@common_options
def list_(options: Options, /, *, state: str | None, **wanted: Any) -> None:
    """List every destination. Refused documents are named on stderr.

    A destination's state is the worst that a worker sees: gone (its bus does not exist), suspended, blocked, slowed
    (it throttles), retrying, or ok. Where no worker has to do with it, its attempts since its last delivery tell; the
    state is empty without any, and disabled or paused by the document. For a bus that does not exist, the list also
    shows when it was last seen, how many deliveries were reported as delivered since then, and the command that sends
    them again.

    In any state, a destination may be behind: it takes events more slowly than they come. The list shows the most
    events that it has still to get, since when it is behind, and the time to catch up (`backlog list`).

    With --json: one document a line, secrets masked; with --state one object with id, state, code, since and backlog
    (as in `backlog list`; null when it is not behind) a line, and for a missing bus missingSince, lastSeen,
    deliveredSince and replay.
    """
    from pushrail_stream.operations.destinations import DestinationFilter
    from pushrail_stream.registry.documents import to_document

    found = list(filter(DestinationFilter(**wanted).matches, _load(options.settings)))
    if state is not None:
        _list_states(options, found, state)
        return
    options.table(_COLUMNS, map(_row, found), map(to_document, found))


@destinations.command(epilog="Example: pushrail-stream destinations show dst_acme_8K2zRq")
@click.argument("destination_id", metavar="ID")
@click.option(
    "--raw", is_flag=True, help="Print the document as it is written, with its sealed secret; also a refused one."
)
@common_options
def show(options: Options, *, destination_id: str, raw: bool) -> None:
    """Print one destination's document with every default, and the secret masked.

    With --raw, a value that the reader refuses is masked: it may be a secret in the wrong place.
    """
    from pushrail_stream.operations.document_changes import show_document, unusable
    from pushrail_stream.registry.documents import to_document

    options.refuse_csv()
    settings = options.settings
    if raw:
        name, text = show_document(settings, destination_id)
        note(f"document: {name}")
        click.echo("\n".join(map(printable, text.splitlines())))
        return
    directory = _load(settings)
    destination = directory.get(destination_id)
    if destination is None or directory.is_refused(destination_id):
        raise unusable(settings, destination_id)
    if not options.json:
        note(f"document: {directory.document_of(destination_id)}")
    options.document(to_document(destination))


@destinations.command(epilog="Example: pushrail-stream destinations validate config/destinations/acme-8K2zRq.json")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--alone", is_flag=True, help="Check FILES without the registry, beside each other only.")
@common_options
def validate(options: Options, files: tuple[Path, ...], *, alone: bool) -> None:
    """Check documents: these FILES (or folders), or all of the registry. The command exits 2 when one is refused.

    FILES are checked as `destinations put` checks them: by themselves, and beside the documents of the registry, which
    they may replace.

    With --json: one object with accepted, refused, refusals and warnings.
    """
    from pushrail_stream.operations.destinations import check_documents, load_documents

    settings = options.settings
    found = check_documents(settings, files, is_alone=alone) if files else load_documents(settings).verdict
    with to_the_end():
        options.answer(
            {
                "accepted": found.accepted,
                "refused": found.refused,
                "refusals": [as_json(refusal) for refusal in found.refusals],
                "warnings": [as_json(caveat) for caveat in found.caveats],
            },
            *(f"refused: {refusal}" for refusal in found.refusals),
            *(f"warning: {caveat}" for caveat in found.caveats),
            f"{found.accepted} accepted, {found.refused} refused",
        )
    if found.refusals:
        click.get_current_context().exit(2)


@destinations.command(epilog="Example: pushrail-stream destinations schema > destination.schema.json")
@common_options
def schema(options: Options) -> None:
    """Print the JSON Schema (2020-12) of destination documents, for editors and CI.

    `destinations validate` also checks rules between fields and between documents.
    """
    from pushrail_stream.registry.schema import document_schema

    options.document(document_schema())


@destinations.command("test", epilog="Example: pushrail-stream destinations test dst_acme_8K2zRq")
@click.argument("destination_id", metavar="ID")
@click.option(
    "--strict", is_flag=True, help="Fail also on a warning, and unless the role is shown to require the external ID."
)
@common_options
def test(options: Options, *, destination_id: str, strict: bool) -> None:
    """Test a destination step by step: credentials, AssumeRole, the refusal of a wrong and of a missing external ID,
    the bus, and a test event (eventType pushrail.test). A disabled destination can be tested too.

    The command exits 1 when a step failed; a warning or an unknown result is no failure without --strict. With --json:
    one object with id, ok, enabled and steps (name, result, message, eventId, requestId).
    """
    from pushrail_stream.operations.destinations import find_destination, test_destination

    destination = find_destination(options.settings, destination_id, note)
    show_step = (lambda _: None) if options.json else _print_step
    steps = test_destination(options.settings, destination, show_step, is_strict=strict)
    is_ok, enabled = all(step.result != "failed" for step in steps), destination.enabled
    if options.json:
        emit({"id": destination_id, "ok": is_ok, "enabled": enabled, "steps": [_step_as_json(step) for step in steps]})
    elif is_ok and not enabled:
        mend = "correct the warnings, then " if any(step.result == "warning" for step in steps) else ""
        note(f"it works; {mend}begin: destinations enable {destination_id}")
    if not is_ok:
        click.get_current_context().exit(1)


def _print_step(step: Step) -> None:
    known = {"event id": step.event_id, "request id": step.request_id}
    ids = "".join(f", {name} {value}" for name, value in known.items() if value)
    say(f"{_MARKS[step.result]:8} {step.name:18} {step.message}{ids}")


def _step_as_json(step: Step) -> dict[str, object]:
    fields = dataclasses.asdict(step)
    return fields | {"eventId": fields.pop("event_id"), "requestId": fields.pop("request_id")}


for _command in (
    onboard, documents.put, documents.enable, documents.disable, documents.delete, documents.seal, backup.export,
    backup.import_, resuming.pause, resuming.resume,
):  # fmt: skip
    destinations.add_command(_command)


def _list_states(options: Options, destinations: Sequence[Destination], wanted: str) -> None:
    from pushrail_stream.operations.destination_health import read_states

    with options.progress() as progress:
        states = read_states(options.settings, destinations, progress)
    found = [one for one in states if wanted in {_ANY_STATE, one.state}]
    options.table(_STATE_COLUMNS, map(_state_row, found), map(_state, found))
    for destination, _, health, backlog in found:
        if health is not None and health.bus is not None:
            effect = explain(destination.id, health.bus, health.swallowed)
            options.say(f"{destination.id}: its bus is missing since {format_time(health.bus.since_ms)}; {effect}")
        if backlog is not None:
            options.say(explain_backlog(backlog))


def _state_row(one: SeenState) -> tuple[Cell, ...]:
    health, backlog = one.health, one.backlog
    return (
        *_row(one.destination),
        one.state,
        *((health.code, health.since_ms) if health else ("", None)),
        backlog.events if backlog else None,
    )


def _state(one: SeenState) -> dict[str, Any]:
    backlog = None if one.backlog is None else backlog_as_json(one.backlog)
    said: dict[str, Any] = {"id": one.destination.id, "state": one.state, "code": None, "since": None}
    said |= {"backlog": backlog}
    health = one.health
    if health is None:
        return said
    said |= {"code": health.code, "since": format_time(health.since_ms) or None}
    if health.bus is None:
        return said
    lost = health.swallowed
    return said | {
        "missingSince": format_time(health.bus.since_ms),
        "lastSeen": format_time(health.bus.last_seen_ms) or None,
        "deliveredSince": lost.deliveries if lost else 0,
        "replay": lost.replay_command(one.destination.id) if lost else None,
    }


def _load(settings: Settings) -> Catalog:
    """The registry's destinations, their secrets sealed; the problems of documents go to stderr."""
    from pushrail_stream.operations.destinations import load_documents

    catalog, refusals, caveats = load_documents(settings, decrypt=False)
    for refusal in refusals:
        note(f"refused: {refusal}")
    for caveat in caveats:
        note(f"warning: {caveat}")
    return catalog


def _row(destination: Destination) -> tuple[Cell, ...]:
    from pushrail_stream.settings.eventbridge import auth_of
    from pushrail_stream.settings.values import Arn

    return (
        destination.id,
        destination.customer_external_id,
        destination.vendor,
        Arn.of(destination.bus.arn).name,
        destination.bus.region,
        auth_of(destination).label,
        PAUSED if destination.closed_as == PAUSED else destination.enabled,
        destination.detail_format,
        (", ".join(destination.event_types) or "*") + ("" if destination.filter is None else ", by pattern"),
    )
