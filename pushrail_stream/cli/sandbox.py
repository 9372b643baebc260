"""``pushrail-stream sandbox``: the demo, and the fault-injecting bus as a program."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import Cell, document, emit, note, say, table
from pushrail_stream.cli.process import on_signal, run_loop
from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.files import reason_of
from pushrail_stream.sandbox.bus.faults import Rule, rules_from_json
from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus

if TYPE_CHECKING:
    from pushrail_stream.sandbox.demo.report import Percentiles, Report, Row

_DELIVERING_SECS: Final = 40.0
_EVENTS_PER_SECOND: Final = 75
"""The pace of a slow machine, which sets the deadline for more events than the default."""

_BUS_HELP: Final = """Serve a bus that answers PutEvents and AssumeRole as AWS does, and fails on demand.

It runs until Ctrl-C or SIGTERM. Once it listens it prints one line of JSON: {"url": ..., "caPath": ...}. Set
eventbridge.endpoint_url and sts.endpoint_url to this url.

Faults are a plan of rules, which are tried in order; the first rule that fires decides about a call. This plan
throttles a tenth of the calls to a bus, and fails every entry of some event types:

\b
{"rules": [
  {"match": {"operation": "PutEvents", "bus": "*:event-bus/acme"},
   "when": {"kind": "probability", "probability": 0.1},
   "effect": {"kind": "callError", "status": 400,
              "code": "ThrottlingException"}},
  {"match": {"eventType": "order.*"},
   "effect": {"kind": "entryError", "code": "InternalFailure"}}
]}

\b
match   operation (PutEvents, DescribeEventBus, AssumeRole or
        GetCallerIdentity), bus, role and eventType (exact or
        with *), accessKey, detailContains (a list of strings);
        an absent field matches everything
when    always (the default); probability (probability);
        times (times: the first matches);
        sequence (first, last: from match to match);
        ratePerSecond (ratePerSecond, burst: matches above it)
effect  callError (status, code, message, body);
        entryError (code, message: HTTP 200, the entry failed);
        latency (secs); hang; resetBefore; resetAfter;
        garbage200 (body: empty, html, object or short);
        expireTokens

Control is HTTP on the same port, JSON in and out:

\b
GET  /_bus/counts     calls, entries, arrivals, failures; by bus
GET  /_bus/arrivals   entries that the buses took (?offset=&limit=);
                      /_bus/calls and /_bus/assumed likewise
GET  /_bus/plan       the plan in force
PUT  /_bus/plan       replaces it; {"rules": []} ends all faults
POST /_bus/buses      {"arn": ...} declares a bus
POST /_bus/keys       {"accessKey": ..., "secret": ...} declares a key
POST /_bus/roles      {"roleArn": ..., "externalId": ...} declares a
                      role, or {"roleArn": ..., "trustPolicy": {...},
                      "permissionsPolicies": [...]} by IAM policies
POST /_bus/rules      {"bus": ARN, "name": ..., "pattern": {...},
                      "queue": ARN} sends the events that match an
                      event pattern to an SQS queue of this bus
POST /_bus/clear      forgets arrivals, calls and counts
"""
"""``\\b`` keeps click from filling the lines of the tables."""


@click.group(invoke_without_command=True, epilog="Example: pushrail-stream sandbox --events 500 --keep")
@click.option(
    "--events", type=click.IntRange(50, 20_000), default=3_000, show_default=True, help="Number of records to produce."
)
@click.option("--keep", is_flag=True, help="Go on consuming until Ctrl-C, and print all addresses.")
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


@sandbox.command(help=_BUS_HELP, epilog="Example: pushrail-stream sandbox bus --port 4010 --open --plan faults.json")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=0,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--tls", is_flag=True, help="Serve HTTPS with a fresh certificate authority.")
@click.option(
    "--ca", "ca_path", type=click.Path(path_type=Path), help="File for the authority's certificate (with --tls)."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the faults' random numbers.")
@click.option(
    "--no-signatures", "check_signatures", is_flag=True, flag_value=False, default=True,
    help="Accept every signature made with a declared key.",
)  # fmt: skip
@click.option("--open", is_flag=True, help="Accept keys, roles and buses that are not declared.")
@click.option("--plan", type=click.Path(path_type=Path), metavar="FILE", help="Plan of faults to start with.")
@common_options
def bus(options: Options, /, *, plan: Path | None, **values: Any) -> None:
    """Serve the fault-injecting bus; its help is `_BUS_HELP`."""
    del options
    config = BusConfig(**values)
    if config.ca_path is not None and not config.tls:
        raise click.UsageError("--ca is for --tls", click.get_current_context())
    rules = [] if plan is None else _read_plan(plan)
    try:
        run_loop(_serve(config, rules))
    except ImportError as error:
        raise OperatorError("--tls needs one more library: pip install 'pushrail-stream[sandbox]'") from error
    except OSError as error:
        raise OperatorError(f"{config.host}:{config.port}: {reason_of(error)}") from error


async def _demo(options: Options, events: int, *, keep: bool, began: float) -> bool:
    # Imported here: the bus as a program does not need the worker, which takes half a second to import.
    from pushrail_stream.observe.logging import open_log  # noqa: PLC0415
    from pushrail_stream.sandbox.demo.run import run_demo  # noqa: PLC0415
    from pushrail_stream.sandbox.demo.world import addresses, open_world  # noqa: PLC0415
    from pushrail_stream.worker import Worker, run_worker  # noqa: PLC0415

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
                if options.json:
                    emit({"keep": addresses(world)})
                else:
                    _show_addresses(addresses(world))

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
    say(f"The rules on the bus of {granted.destination}, each with a queue of its own:")
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
        say("The example event as it arrived in the customer's SQS queue:")
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


def _show_addresses(addresses: Mapping[str, Any]) -> None:
    """Print the addresses, one a line."""
    say("")
    names = {"Kafka": "kafka", "AWS": "aws", "settings": "config", "a worker": "run", "an event": "produce_python",
             "with kcat": "produce_kcat", "its queue": "receive", "a fault": "break"}  # fmt: skip
    for name, key in names.items():
        say(f"{name:<12}{addresses[key]}")
    say("The worker goes on consuming until Ctrl-C.")


def _read_plan(path: Path) -> list[Rule]:
    try:
        return rules_from_json(json.loads(path.read_bytes()))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {reason_of(error)}") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


async def _serve(config: BusConfig, rules: list[Rule]) -> None:
    stop = asyncio.Event()
    on_signal(stop.set)
    async with FaultBus.serve(config) as server:
        server.set_plan(rules)
        emit({"url": server.url, "caPath": server.ca_path})
        await stop.wait()
