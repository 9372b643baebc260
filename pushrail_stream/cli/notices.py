"""``pushrail-stream notices``: the changes of state that workers have written down."""

from __future__ import annotations

import json
from typing import Any, Final

import click

from pushrail_stream.cli.options import FROM_THEN_ON, Options, common_options, moment_option
from pushrail_stream.cli.output import Cell, Column
from pushrail_stream.operations.times import now_ms

_PREFIX: Final = "pushrail."
_DAY_MS: Final = 86_400_000
_OF_ROW: Final = frozenset({"destinationId", "vendor", "customerExternalId", "worker"})
"""Fields of the data that have columns of their own, or that people seldom need."""


@click.command(epilog="Example: pushrail-stream notices --since 2d --kind destination.suspended")
@moment_option("since", f"Only notices written {FROM_THEN_ON} [default: 1d]")
@click.option("--destination", metavar="ID", help="Only notices about this destination.")
@click.option("--kind", help="Only notices of this kind, or whose kind begins so: bus.missing, backlog.")
@common_options
def notices(options: Options, *, since_ms: int | None, destination: str | None, kind: str | None) -> None:
    """Show notices: destinations suspended or resumed, buses missing or back, our credentials failing or working,
    backlogs that grow, and dead letters that Kafka will soon remove.

    Workers write one to topics.notices when such a state begins or ends, and none while it lasts. Each worker that sees
    a change tells of it. `destinations list --state` and `backlog list` show the present.

    With --json: each notice as it was written, a CloudEvent.
    """
    from pushrail_stream.operations.json_topic import read_objects

    settings = options.settings
    begin_ms = now_ms() - _DAY_MS if since_ms is None else since_ms
    with options.progress() as progress:
        read = read_objects(settings, settings.topics.notices, "notices", progress, time="time", since_ms=begin_ms)
        found = [notice for notice in read if _is_wanted(notice, destination, kind)]
    columns = (Column("time", "time"), "kind", "destination", Column("details", "prose"))
    options.table(columns, map(_row, found), found)


def _is_wanted(notice: dict[str, Any], destination: str | None, kind: str | None) -> bool:
    is_its = destination is None or notice.get("subject") == destination
    return is_its and (kind is None or _kind(notice).startswith(kind))


def _kind(notice: dict[str, Any]) -> str:
    return str(notice.get("type", "")).removeprefix(_PREFIX)


def _row(notice: dict[str, Any]) -> tuple[Cell, ...]:
    data = notice.get("data")
    details = {name: value for name, value in (data if isinstance(data, dict) else {}).items() if name not in _OF_ROW}
    shown = ", ".join(f"{name} {_text(value)}" for name, value in details.items() if value not in (None, ""))
    return str(notice.get("time")), _kind(notice), str(notice.get("subject") or ""), shown


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
