"""``pushrail-stream events``: schemas for producers, and a check of their events."""

from __future__ import annotations

from typing import BinaryIO

import click

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import document, emit, to_the_end
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.events.schema import asyncapi as asyncapi_document
from pushrail_stream.events.schema import event_schema
from pushrail_stream.operations.event_files import check_events


@click.group(epilog="Example: pushrail-stream events check events.jsonl")
def events() -> None:
    """Check producers' events, and print their schemas."""


@events.command(epilog="Example: pushrail-stream events schema > event.schema.json")
@common_options
def schema(options: Options) -> None:
    """Print the JSON Schema (2020-12) of a canonical event. It accepts exactly the events that workers accept."""
    (emit if options.json else document)(event_schema())


@events.command(epilog="Example: pushrail-stream events asyncapi > asyncapi.json")
@common_options
def asyncapi(options: Options) -> None:
    """Print the AsyncAPI 3 document of the topic of events: its records' key, headers and value."""
    (emit if options.json else document)(asyncapi_document(options.settings.topics.events))


@events.command(epilog="Example: kcat -C -e -t pushrail.events | pushrail-stream events check -")
@click.argument("file", type=click.File("rb"))
@common_options
def check(options: Options, *, file: BinaryIO) -> None:
    """Check the events in FILE (- for standard input): one event, an array of events, or one event a line.

    Workers accept an event exactly when this check does. The command exits 1 when one breaks a rule. With --json: one
    object for each broken rule, with line, field and problem.
    """
    total = bad = 0
    rows = []
    for line, problems in check_events(file):
        total, bad = total + 1, bad + bool(problems)
        rows += [(line, *problem) for problem in problems]
    if not total:
        raise UsageError(f"{file.name}: has no event")
    with to_the_end():
        if rows or options.json:
            options.table(("line", "field", "problem"), rows)
        else:
            options.answer(None, f"{file.name}: {total} valid")
    if bad:
        raise OperatorError(f"{file.name}: {bad} of {total} events break a rule")
