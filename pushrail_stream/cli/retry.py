"""``pushrail-stream retry``: the deliveries that wait for their next attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from pushrail_stream.cli.options import Options, audited, common_options
from pushrail_stream.cli.output import Column, note
from pushrail_stream.errors import OperatorError

if TYPE_CHECKING:
    from pushrail_stream.operations.retries import WorkerRetries

_COLUMNS: Final = (
    "destination", "reason", "code", "count", Column("oldest", "time", drop=1), Column("next due", "time"),
    Column("last due", "time", drop=2),
)  # fmt: skip


@click.group(epilog="Example: pushrail-stream retry list")
def retry() -> None:
    """Show the deliveries that wait on the retry topics, and begin those of a destination at once."""


@retry.command("list", epilog="Example: pushrail-stream retry list --destination dst_acme_8K2zRq")
@click.option("--destination", metavar="ID", help="Only deliveries to this destination.")
@common_options
def list_(options: Options, *, destination: str | None) -> None:
    """Count the deliveries that wait, by destination, reason and code, and tell when they are due.

    The oldest is the first attempt of the delivery that has waited longest. Deliveries that a worker has begun and not
    yet settled count. A destination that is behind has no copies here: `backlog list`. With --json: one object for each
    row.
    """
    from pushrail_stream.operations.retries import list_waiting

    with options.progress() as progress:
        found = list_waiting(options.settings, progress, destination)
    options.table(
        _COLUMNS,
        (
            (one.destination, one.reason, one.code, one.count, one.oldest_ms, one.next_due_ms, one.last_due_ms)
            for one in found
        ),
    )
    if not options.json:
        count = sum(one.count for one in found)
        note(f"{count} deliveries wait" + ("; when a bus is back: retry now --destination ID" if count else ""))


@retry.command(epilog="Example: pushrail-stream retry now --destination dst_acme_8K2zRq")
@click.option("--destination", metavar="ID", required=True, help="Begin the deliveries to this destination.")
@common_options
@audited
def now(options: Options, *, destination: str) -> None:
    """Begin the deliveries that wait for a destination now, because its bus is back.

    All workers are asked. Each probes the destination, or checks its missing bus, at once. When the first delivery
    arrives, the others follow as fast as the destination takes them; when none arrives, they keep their time.
    Deliveries to other destinations keep their time too. Nothing is sent twice. A destination that is behind is also
    probed at once, and its backlog goes on when it answers.

    In each partition of a retry topic, the deliveries within the next 20,000 records begin; "kept" counts those beyond
    records that still wait. Run the command again to reach them later, or when workers were starting or stopping.

    The command exits 1 when a worker does not answer or could not go on. With --json: one object for each worker.
    """
    from pushrail_stream.operations.retries import retry_now

    found = retry_now(options.settings, destination)
    options.table(
        ("worker", "begun", "kept", "goes on", Column("problem", "prose")),
        ((one.worker, one.begun, one.kept, one.goes_on, one.problem) for one in found),
    )
    if not options.json:
        note(_summary(destination, found))
    if problems := [f"{one.worker}: {one.problem}" for one in found if one.problem]:
        raise OperatorError(*problems)


def _summary(destination: str, found: list[WorkerRetries]) -> str:
    begun = sum(one.begun for one in found)
    more = ", and more follow" if any(one.goes_on for one in found) else ""
    return f"{begun} deliveries to {destination} begun{more}; `attempts --destination {destination}` shows them"
