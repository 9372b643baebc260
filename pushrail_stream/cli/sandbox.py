"""``pushrail-stream sandbox``: the demo, and the events that arrived in it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import Cell, Column, document, emit, format_time, note, say, table
from pushrail_stream.cli.process import on_signal, run_loop
from pushrail_stream.cli.sandbox_bus import bus
from pushrail_stream.errors import OperatorError, UsageError

if TYPE_CHECKING:
    from pushrail_stream.sandbox.demo.report import Percentiles, Report, Row

_DELIVERING_SECS: Final = 40.0
_EVENTS_PER_SECOND: Final = 75
"""The pace of a slow machine, which sets the deadline for more events than the default."""


_INBOX: Final = (Column("at", "time"), "event type", "customer", "key", Column("bus", drop=1), Column("rules", "prose"))


@click.group(invoke_without_command=True, epilog="Example: pushrail-stream sandbox --events 500 --keep")
@click.option(
    "--events", type=click.IntRange(50, 20_000), default=3_000, show_default=True, help="Number of records to produce."
)
@click.option("--keep", is_flag=True, help="Go on consuming until Ctrl-C, and print commands to try.")
@common_options
@click.pass_context
def sandbox(context: click.Context, options: Options, events: int, keep: bool) -> None:  # noqa: FBT001 - click's way
    """Deliver events on this machine alone, with the real worker.

    The demo starts an embedded Kafka and a bus of its own with several customers' AWS accounts. It produces some
    thousand events; a few of them cannot be delivered. It ends with a table of each destination's figures and exits 1
    when they do not add up. It needs neither Docker nor Java, reads no settings (--config is not used) and reaches no
    AWS account.

    With --json it prints one object with ok, problems, rows (one per destination), ledger, offsets, latency_ms and
    sample.
    """
    if context.invoked_subcommand is not None:
        return
    began = time.monotonic()
    ok = run_loop(_demo(options, events, keep=keep, began=began))
    if not ok:
        raise OperatorError("the figures do not add up")


sandbox.add_command(bus)


@sandbox.command(epilog="Example: pushrail-stream sandbox inbox --key order_38a91f-completed")
@click.option("--key", metavar="KEY", help="Show only the event with this idempotency key, in full.")
@click.option("--rule", metavar="NAME", help="Show only events that this rule matched.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Show at most this many of the newest events.",
)
@common_options
def inbox(options: Options, *, key: str | None, rule: str | None, limit: int) -> None:
    """Show the events that arrived on the customers' buses and matched a rule there, the newest last.

    The bus is that of a sandbox (`sandbox --keep`, `sandbox bus`): the settings name it as eventbridge.endpoint_url.
    With --json: one object an event, with at (the time of its arrival), bus, rules and event.
    """
    from pushrail_stream.sandbox.bus.inbox import read_inbox

    url = options.settings.eventbridge.endpoint_url
    if url is None:
        raise UsageError("eventbridge.endpoint_url: is not set; `sandbox --keep` prints the command for its inbox")
    found = read_inbox(url, limit=limit, rule=rule, key=key)
    if key is not None and not options.json:
        for one in found:
            document(one["event"])
    else:
        options.table(_INBOX, map(_inbox_row, found), ({"at": format_time(one.pop("atMs")), **one} for one in found))
    if not found:
        raise OperatorError("no such event has arrived")


def _inbox_row(found: Mapping[str, Any]) -> tuple[Cell, ...]:
    event = found["event"]
    customer, key = [*event["resources"], "", ""][:2]
    return found["atMs"], event["detail-type"], customer, key, found["bus"], ", ".join(found["rules"])


async def _demo(options: Options, events: int, *, keep: bool, began: float) -> bool:
    # Imported here: the bus as a program does not need the worker, which takes half a second to import.
    from pushrail_stream.observe.logging import open_log
    from pushrail_stream.sandbox.demo.run import run_demo
    from pushrail_stream.sandbox.demo.tour import tour_of
    from pushrail_stream.sandbox.demo.world import open_world
    from pushrail_stream.worker import Worker, run_worker

    async with open_world() as world:
        kafka = world.broker.bootstrap_servers
        note(f"          AWS is the sandbox's own bus at {world.bus.url}, Kafka is librdkafka's own at {kafka}")
        with options.progress() as progress:
            report = await run_demo(world, events, max(_DELIVERING_SECS, events / _EVENTS_PER_SECOND), progress)
        secs = time.monotonic() - began
        if options.json:
            emit(report.document() | {"secs": round(secs, 1)})
        else:
            _show_report(report, secs)
        if keep:

            def started(worker: Worker) -> None:
                on_signal(worker.stop)
                tour = tour_of(world, worker.http_port)
                if options.json:
                    emit({"keep": tour})
                else:
                    _show_tour(tour)

            await run_worker(world.settings, world.catalog, open_log(options.log_level), started=started)
    return report.ok


def _show_report(report: Report, secs: float) -> None:
    """Print the report as tables."""
    say("")
    table(
        ("customer", "destination", "access", "produced", "delivered", "arrived", "dead", "skipped"),
        (_cells(row) for row in report.rows),
    )
    say("")
    granted = next(row for row in report.rows if row.rules)
    say(f"The rules on the bus of {granted.destination}, and the number of events that each matched:")
    table(
        ("rule", "event pattern", "matched"),
        ((name, json.dumps(rule.pattern), rule.matched) for name, rule in granted.rules.items()),
    )
    say("")
    figures = report.figures
    offsets = (f"partition {name} at {at['committed']} of {at['end']}" for name, at in figures["offsets"].items())
    lines = {
        "records": f"{figures['records']} produced, {figures['not_decodable']} of them not events (undecodable)",
        "deliveries": ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in figures["ledger"].items()),
        "offsets": ", ".join(offsets),
        "throughput": f"{figures['delivered_per_second']:g} deliveries/s, with bus and worker in one process",
        "latency": f"{_percentiles(figures['latency_ms'])} from the record's Kafka timestamp to the bus's confirmation",
        "PutEvents": f"{_percentiles(figures['call_ms'])} of that: calls to the bus",
        "time": f"{secs:.1f} s in all",
    }
    for name, text in lines.items():
        say(f"{name:<12}{text}")
    if report.sample is not None:
        say("")
        say("The example event as the customer's rule received it:")
        document(report.sample)
    for problem in report.problems:
        say(f"problem: {problem}")
    if report.ok:
        say("Everything adds up.")


def _percentiles(of: Percentiles) -> str:
    return f"p50 {of.p50:g} ms, p99 {of.p99:g} ms"


def _cells(row: Row) -> tuple[Cell, ...]:
    arrived = f"{row.arrived} (+{row.repeated} copies)" if row.repeated else row.arrived
    dead, skipped = _reasons(row.dead), _reasons(row.skipped)
    return row.customer, row.destination or "-", row.access, row.produced, row.delivered, arrived, dead, skipped


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "0"


def _show_tour(tour: Mapping[str, Any]) -> None:
    """Print the addresses and the commands, one a line."""
    say("")
    for name, key in {"Kafka": "kafka", "AWS": "aws", "status page": "status_page", "settings": "config"}.items():
        say(f"{name:<13}{tour[key]}")
    say("")
    say("Paste these lines into another terminal:")
    for name, command in tour["commands"].items():
        say(f"# {name}")
        say(command)
    say("")
    say("The worker goes on consuming until Ctrl-C.")
    say(f"next: {tour['next']}")
