"""``pushrail-stream sandbox``: everything on this machine, without Kafka, AWS, Docker or Java."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import signal
import time
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import uvloop

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import document, emit, say, table
from pushrail_stream.errors import OperatorError, UsageError

if TYPE_CHECKING:
    from pushrail_stream.sandbox.bus import BusConfig, Rule
    from pushrail_stream.sandbox.demo.report import Percentiles, Report, Row

_EXTRA: Final = ("httptools", "trustme")
_EVENTS: Final = 3_000
_DELIVERING_SECS: Final = 40.0
_EVENTS_PER_SECOND: Final = 75
"""A slow machine's pace, for more events than usual."""

_BUS_HELP: Final = """Serve a bus that answers PutEvents and AssumeRole as AWS does, and fails on demand.

It runs until Ctrl-C or SIGTERM. Once it listens it prints one line of JSON: {"url": ..., "caPath": ...}. Point
eventbridge.endpoint_url and sts.endpoint_url at the url. It is controlled over HTTP on the same port, JSON in and out:

\b
GET  /_bus/counts     calls, entries, arrivals, failures; by bus
GET  /_bus/arrivals   what the buses took (?offset=&limit=);
                      /_bus/calls and /_bus/assumed likewise
GET  /_bus/latencies  receipt minus production (?bus=ARN)
GET  /_bus/plan       the faults in force
PUT  /_bus/plan       {"rules": [...]} replaces them, [] ends all
POST /_bus/buses      {"arn": ...} declares a bus
POST /_bus/keys       {"accessKey": ..., "secret": ...} declares a key
POST /_bus/roles      {"roleArn": ..., "externalId": ...} declares a role
POST /_bus/clear      forgets arrivals, calls and counts
"""
"""``\\b`` keeps click from filling the lines of the table."""

T = TypeVar("T")


@click.group(invoke_without_command=True, epilog="Example: pushrail-stream sandbox --events 500 --keep")
@click.option(
    "--events", type=click.IntRange(50, 20_000), default=_EVENTS, show_default=True, help="Records to produce."
)
@click.option("--keep", is_flag=True, help="Go on consuming afterwards, until Ctrl-C; prints all addresses.")
@common_options
@click.pass_context
def sandbox(context: click.Context, options: Options, events: int, keep: bool) -> None:  # noqa: FBT001 - click's way
    """Show the whole way of an event on this machine alone, with the real worker.

    An embedded Kafka, a stand-in for AWS (moto) with a handful of customers' accounts, and some thousand events, among
    them a few that cannot be delivered. Ends with everybody's accounts side by side and exits 1 when they do not add
    up. Needs neither Docker nor Java, reads no settings (--config is not used) and reaches no real AWS account.

    With --json: one object with ok, problems, rows (one per destination), ledger, offsets, latency_ms and sample.
    """
    if context.invoked_subcommand is not None:
        return
    _require_extra()
    began = time.monotonic()
    ok = _run(_play(options, events, keep=keep, began=began))
    if not ok:
        raise OperatorError("the accounts do not add up")


@sandbox.command(help=_BUS_HELP, epilog="Example: pushrail-stream sandbox bus --port 4010 --open --plan faults.json")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=0, show_default=True, help="0 takes a free one.")
@click.option("--tls", is_flag=True, help="Serve HTTPS with a fresh certificate authority.")
@click.option("--ca", type=click.Path(path_type=Path), help="Where to write the authority's PEM (with --tls).")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the faults' dice.")
@click.option("--no-signatures", is_flag=True, help="Keys must be declared, signatures are not recomputed.")
@click.option("--open", "is_open", is_flag=True, help="Take every well-formed key, role and bus undeclared.")
@click.option(
    "--plan", type=click.Path(path_type=Path), metavar="FILE", help='Faults from the start: {"rules": [...]}.'
)
@common_options
def bus(  # noqa: PLR0917 - each option is an argument
    options: Options,
    host: str,
    port: int,
    tls: bool,  # noqa: FBT001 - click's way
    ca: Path | None,
    seed: int,
    no_signatures: bool,  # noqa: FBT001 - click's way
    is_open: bool,  # noqa: FBT001 - click's way
    plan: Path | None,
) -> None:
    """Serve the fault-injecting bus; `_BUS_HELP` is what its user reads."""
    del options
    _require_extra()
    if ca is not None and not tls:
        raise click.UsageError("--ca is for --tls", click.get_current_context())
    from pushrail_stream.sandbox.bus import BusConfig  # noqa: PLC0415 - the extra may not be installed

    config = BusConfig(
        host=host, port=port, tls=tls, ca_path=ca, open=is_open, check_signatures=not no_signatures, seed=seed
    )
    rules = [] if plan is None else _read_plan(plan)
    try:
        asyncio.run(_serve(config, rules))
    except OSError as error:
        raise OperatorError(f"{host}:{port}: {(error.strerror or str(error)).lower()}") from error


def _require_extra() -> None:
    if not all(importlib.util.find_spec(name) for name in _EXTRA):
        raise OperatorError("the sandbox is not installed: pip install 'pushrail-stream[sandbox]'")


def _run(work: Awaitable[T]) -> T:
    """Run to the end; SIGTERM ends it as Ctrl-C does, with everything that was started."""

    async def main() -> T:
        return await work

    # A script's background job begins with SIGINT ignored: SIGTERM, which becomes one here, would be lost with it.
    interrupted = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main())
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, interrupted)


async def _play(options: Options, events: int, *, keep: bool, began: float) -> bool:
    from pushrail_stream.sandbox.demo.play import Play, Steps, play  # noqa: PLC0415 - the extra may not be installed
    from pushrail_stream.sandbox.demo.play import keep as keep_running  # noqa: PLC0415 - as above
    from pushrail_stream.sandbox.demo.world import addresses, open_world  # noqa: PLC0415 - as above

    steps = Steps()
    script = Play(events, max(_DELIVERING_SECS, events / _EVENTS_PER_SECOND))
    async with open_world(script.customers) as world:
        kafka = world.broker.bootstrap_servers
        steps.say(f"          AWS is the sandbox's own bus at {world.bus.url}, Kafka is librdkafka's own at {kafka}")
        steps.say(f"          {len(script.customers)} AWS accounts: a role with external ID, buses, rules, queues")
        report = await play(world, script, steps)
        present = emit_report if options.json else show_report
        present(report, time.monotonic() - began)
        if keep:
            announce = emit_addresses if options.json else show_addresses
            await keep_running(world, options.log_level, lambda: announce(addresses(world)))
    return report.ok


def emit_report(report: Report, secs: float) -> None:
    """The report for machines."""
    emit(report.document() | {"secs": round(secs, 1)})


def emit_addresses(addresses: Mapping[str, Any]) -> None:
    """The addresses for machines."""
    emit({"keep": addresses})


def show_report(report: Report, secs: float) -> None:
    """The report for people."""
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
        ((name, json.dumps(rule.pattern), str(rule.matched)) for name, rule in granted.rules.items()),
    )
    say("")
    figures = report.figures
    offsets = (f"partition {name} at {at['committed']} of {at['end']}" for name, at in figures["offsets"].items())
    lines = {
        "records": f"{figures['records']} produced, {figures['not_decodable']} of them no events (dead: undecodable)",
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


def _cells(row: Row) -> tuple[str, ...]:
    arrived = str(row.arrived) + (f" (+{row.repeated} copies)" if row.repeated else "")
    return (
        row.customer,
        row.destination or "-",
        row.access,
        str(row.produced),
        str(row.delivered),
        arrived,
        _reasons(row.dead),
        _reasons(row.skipped),
    )


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "0"


def show_addresses(addresses: Mapping[str, Any]) -> None:
    """The addresses for people."""
    say("")
    lines = {
        "Kafka": "kafka",
        "AWS": "aws",
        "settings": "config",
        "a worker": "run",
        "an event": "produce_python",
        "with kcat": "produce_kcat",
        "its queue": "receive",
        "a fault": "break",
    }
    for name, key in lines.items():
        say(f"{name:<12}{addresses[key]}")
    say("A worker goes on consuming; Ctrl-C ends everything.")


def _read_plan(path: Path) -> list[Rule]:
    from pushrail_stream.sandbox.bus import FieldError, rules_from_json  # noqa: PLC0415 - the extra may not be installed

    try:
        return rules_from_json(json.loads(path.read_bytes()))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, FieldError) as error:
        raise UsageError(f"{path}: {error}") from error


async def _serve(config: BusConfig, rules: list[Rule]) -> None:
    from pushrail_stream.sandbox.bus import run_bus  # noqa: PLC0415 - the extra may not be installed

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await run_bus(config, announce=say, stop=stop, plan=rules)
