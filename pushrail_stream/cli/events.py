"""``pushrail-stream events``: schemas for producers, and a check of their events."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import click
from click.core import ParameterSource

from pushrail_stream.cli.options import FROM_THEN_ON, Options, common_options, moment_option
from pushrail_stream.cli.output import Cell, Column, document, emit, note, to_the_end
from pushrail_stream.errors import OperatorError, UsageError

_NEWEST: Final = 1_000
"""Events of each partition without --events and --since: enough for the optional members of most types."""


@click.group(epilog="Example: pushrail-stream events check events.jsonl")
def events() -> None:
    """Check producers' events, and print their schemas."""


@events.command(epilog="Example: pushrail-stream events schema --eventbridge --out schemas")
@click.option("--eventbridge", is_flag=True, help="Print a schema of each event type on the topic instead.")
@click.option(
    "--format", "kind", type=click.Choice(["OpenApi3", "JSONSchemaDraft4"], case_sensitive=False), default="OpenApi3",
    show_default=True, help="With --eventbridge: print schemas of this type.",
)  # fmt: skip
@click.option(
    "--events", "newest", type=click.IntRange(1),
    help="With --eventbridge: read at most this many of the newest events of each partition. "
    "[default: 1000 without --since]",
)  # fmt: skip
@moment_option("since", f"With --eventbridge: read events written {FROM_THEN_ON}")
@click.option("--source", help="With --eventbridge: name this source in the schemas. [default: pushrail.VENDOR]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="With --eventbridge: write each schema to a file in this folder.",
)
@common_options
def schema(options: Options, /, *, eventbridge: bool, **wanted: Any) -> None:
    """Print the JSON Schema (2020-12) of a canonical event. It accepts exactly the events that workers accept.

    With --eventbridge: read the topic of events, infer a schema of what customers receive for each event type, and
    print them in the form of EventBridge's schema registry, for code bindings. With --out DIR each one becomes the file
    NAME.json, for `aws schemas create-schema --schema-name NAME --type OpenApi3 --content file://NAME.json`. Names of
    members become part of a schema, values do not.

    With --eventbridge and --json: one object for each schema, as CreateSchema takes it; with --out one object for each
    file, with schema, eventType, events and file.
    """
    from pushrail_stream.events.schema import event_schema

    if eventbridge:
        _infer(options, **wanted)
        return
    context = click.get_current_context()
    for option in context.command.params:
        if option.name in wanted and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option.opts[0]}: needs --eventbridge")
    options.document(event_schema())


def _infer(
    options: Options,
    *,
    kind: Literal["OpenApi3", "JSONSchemaDraft4"],
    newest: int | None,
    since_ms: int | None,
    source: str | None,
    out: Path | None,
) -> None:
    from pushrail_stream.operations.event_schemas import MAX_CONTENT, infer_schemas

    if newest is None and since_ms is None:
        newest = _NEWEST
    with options.progress() as progress:
        inferred = infer_schemas(options.settings, progress, since_ms=since_ms, newest=newest, source=source)
    rows = []
    for one in inferred.schemas(kind):
        if out is not None:
            rows.append((one.name, one.event_type, one.events, str(one.write(out))))
        elif options.json:
            emit({"SchemaName": one.name, "Type": kind, "Content": one.content})
        else:
            document(json.loads(one.content))
        if len(one.content) > MAX_CONTENT:
            note(f"warning: {one.name} has {len(one.content)} characters; CreateSchema takes {MAX_CONTENT}")
    if rows:
        options.table(("schema", "event type", "events", "file"), rows)
    if inferred.left_out:
        note(f"records left out, because they are no canonical event or nested too deeply: {inferred.left_out}")


@events.command(epilog="Example: pushrail-stream events asyncapi > asyncapi.json")
@common_options
def asyncapi(options: Options) -> None:
    """Print the AsyncAPI 3 document of the topic of events: its records' key, headers and value."""
    from pushrail_stream.events.schema import asyncapi as asyncapi_document

    options.document(asyncapi_document(options.settings.topics.events))


@events.command(epilog="Example: kcat -b BROKER -C -e -t pushrail.events | pushrail-stream events check -")
@click.argument("file", type=click.File("rb"))
@common_options
def check(options: Options, *, file: BinaryIO) -> None:
    """Check the events in FILE (- for standard input): one event, an array of events, or one event a line.

    Workers accept an event exactly when this check does. The command exits 1 when one breaks a rule. With --json: one
    object for each broken rule, with line, field and problem.
    """
    from pushrail_stream.operations.event_files import check_events

    found = Counter[bool]()  # events by whether they are valid

    def broken() -> Iterator[tuple[Cell, ...]]:
        for line, problems in check_events(file):
            found[not problems] += 1
            yield from ((line, *problem) for problem in problems)

    rows = broken()
    first = next(rows, None)
    with to_the_end():
        if first is not None:
            options.table(("line", "field", Column("problem", "text")), chain([first], rows), live=True)
        elif found and not options.json:
            options.answer(None, f"{file.name}: {found.total()} valid")
    deque(rows, maxlen=0)  # the verdict counts all events, also after the reader has left
    if not found:
        raise UsageError(f"{file.name}: has no event")
    if found[False]:
        raise OperatorError(f"{file.name}: {found[False]} of {found.total()} events break a rule")
