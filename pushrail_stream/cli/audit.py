"""``pushrail-stream audit``: who changed what, by which command."""

from __future__ import annotations

from typing import Any, Final

import click

from pushrail_stream.cli.options import FROM_THEN_ON, Options, common_options, moment_option
from pushrail_stream.cli.output import Cell, Column
from pushrail_stream.operations.times import now_ms

_WEEK_MS: Final = 604_800_000
_NAMED: Final = 3
"""Changes that a row names; the others are counted, and --json has them all."""


@click.command(epilog="Example: pushrail-stream audit --since 30d --name dst_acme_8K2zRq")
@moment_option("since", f"Only commands that ran {FROM_THEN_ON} [default: 7d]")
@click.option("--command", "words", help="Only this command, or those that begin so: replay, destinations put.")
@click.option("--name", help="Only commands that changed something whose name has this text.")
@common_options
def audit(options: Options, *, since_ms: int | None, words: str | None, name: str | None) -> None:
    """Show the audit trail: the commands that have changed something, by whom, and what.

    With audit.enabled, each such command writes one record to topics.audit: the user of the system, the host and
    audit.actor; its arguments; each document, keyring, topic, offset, replay or key that it changed, with hashes of
    before and after; and whether it failed. A command that cannot be audited changes nothing.

    With --json: each record as it was written.
    """
    from pushrail_stream.operations.json_topic import read_objects

    settings = options.settings
    begin_ms = now_ms() - _WEEK_MS if since_ms is None else since_ms
    with options.progress() as progress:
        read = read_objects(settings, settings.topics.audit, "audit records", progress, time="at", since_ms=begin_ms)
        found = [record for record in read if _is_wanted(record, words, name)]
    columns = (Column("time", "time"), "who", "command", Column("outcome", "status"), Column("changes", "prose"))
    options.table(columns, map(_row, found), found)


def _is_wanted(record: dict[str, Any], words: str | None, name: str | None) -> bool:
    is_command = words is None or str(record.get("command")).startswith(words)
    return is_command and (name is None or any(name in str(change.get("name")) for change in _changes(record)))


def _changes(record: dict[str, Any]) -> list[dict[str, Any]]:
    changes = record.get("changes")
    return [change for change in changes if isinstance(change, dict)] if isinstance(changes, list) else []


def _row(record: dict[str, Any]) -> tuple[Cell, ...]:
    # Another program may have written the record.
    given, count = record.get("who"), record.get("changeCount")
    who = given if isinstance(given, dict) else {}
    people = " for ".join(str(one) for one in (who.get("user"), who.get("actor")) if one)
    named = [f"{change.get('kind')} {change.get('name')}" for change in _changes(record)[:_NAMED]]
    more = (count if isinstance(count, int) else len(_changes(record))) - len(named)
    what = ", ".join([*named, *([f"and {more} more"] if more > 0 else [])])
    return (
        str(record.get("at")), f"{people} at {who.get('host')}", str(record.get("command")),
        str(record.get("outcome")), what,
    )  # fmt: skip
