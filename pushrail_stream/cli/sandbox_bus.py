"""``pushrail-stream sandbox bus``: the fault-injecting bus as a program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit
from pushrail_stream.cli.process import on_signal, run_loop
from pushrail_stream.errors import OperatorError, UsageError

if TYPE_CHECKING:
    from pushrail_stream.sandbox.bus.faults import Rule
    from pushrail_stream.sandbox.bus.server import BusConfig

_HELP: Final = """Serve a bus that answers PutEvents and AssumeRole as AWS does, and fails on demand.

It runs until Ctrl-C or SIGTERM. Once it listens it prints one line of JSON: {"url": ..., "caPath": ...}. Set
eventbridge.endpoint_url and sts.endpoint_url to this url.

Faults are a plan of rules, which are tried in order; the first rule that fires decides about a call. The plan is a file
(--plan), and another one can be put at any time. Save one of these as faults.json, then pass --plan faults.json or call
curl -X PUT URL/_bus/plan -d @faults.json

\b
A tenth of the calls to one bus are throttled:
{"rules": [
  {"match": {"operation": "PutEvents", "bus": "*:event-bus/acme"},
   "when": {"kind": "probability", "probability": 0.1},
   "effect": {"kind": "callError", "status": 400,
              "code": "ThrottlingException"}}
]}

\b
The calls succeed, and every entry of some event types fails:
{"rules": [
  {"match": {"eventType": "order.*"},
   "effect": {"kind": "entryError", "code": "InternalFailure"}}
]}

\b
The third to the fifth PutEvents call are carried out without an
answer, and every answer comes half a second late:
{"rules": [
  {"match": {"operation": "PutEvents"},
   "when": {"kind": "sequence", "first": 3, "last": 5},
   "effect": {"kind": "resetAfter"}},
  {"effect": {"kind": "latency", "secs": 0.5}}
]}

\b
match   an absent field matches everything
  operation       PutEvents, DescribeEventBus, PutPartnerEvents,
                  ListPartnerEventSourceAccounts, AssumeRole or
                  GetCallerIdentity
  bus, eventType, role      exact, or with *
  accessKey       exact
  detailContains  any string of this list
when    the matches that fire
  always          all of them (the default)
  probability     each with this probability (0 to 1)
  times           the first ones, this many (times)
  sequence        from the first-th to the last-th
  ratePerSecond   those above ratePerSecond; burst
effect
  callError       the call is refused: status (400 to 599), code,
                  message; body: aws (the default), empty or html
  entryError      HTTP 200, and the entries that match fail: code,
                  message
  latency         the answer comes secs later
  hang            nothing is carried out, and no answer comes
  resetBefore     the connection is reset, nothing is carried out
  resetAfter      the call is carried out, then the connection is
                  reset
  garbage200      HTTP 200 that confirms nothing; body: empty (the
                  default), html, object or short
  expireTokens    refused as if the session's token had expired

Control is HTTP on the same port, JSON in and out:

\b
GET  /_bus/counts     calls, entries, arrivals, failures; by bus
GET  /_bus/arrivals   entries that the buses took (?offset=&limit=);
                      /_bus/calls and /_bus/assumed likewise
GET  /_bus/inbox      events that event rules matched, the newest
                      (?limit=&rule=&key=)
GET  /_bus/plan       the plan in force
PUT  /_bus/plan       replaces it; {"rules": []} ends all faults
POST /_bus/buses      {"arn": ...} declares a bus
POST /_bus/keys       {"accessKey": ..., "secret": ...} declares a key
POST /_bus/roles      {"roleArn": ..., "externalId": ...} declares a
                      role, or {"roleArn": ..., "trustPolicy": {...},
                      "permissionsPolicies": [...]} by IAM policies
POST /_bus/rules      {"bus": ARN, "name": ..., "pattern": {...}} adds
                      an event rule with an inbox
POST /_bus/clear      forgets arrivals, calls and counts
"""
"""``\\b`` keeps click from filling the lines of the tables."""


@click.command(help=_HELP, epilog="Example: pushrail-stream sandbox bus --port 4010 --open")
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
    """Serve the fault-injecting bus; its help is `_HELP`."""
    from pushrail_stream.files import reason_of
    from pushrail_stream.sandbox.bus.server import BusConfig

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


def _read_plan(path: Path) -> list[Rule]:
    from pushrail_stream.files import reason_of
    from pushrail_stream.sandbox.bus.faults import rules_from_json

    try:
        return rules_from_json(json.loads(path.read_bytes()))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {reason_of(error)}") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


async def _serve(config: BusConfig, rules: list[Rule]) -> None:
    import asyncio

    from pushrail_stream.sandbox.bus.server import FaultBus

    stop = asyncio.Event()
    on_signal(stop.set)
    async with FaultBus.serve(config) as server:
        server.set_plan(rules)
        emit({"url": server.url, "caPath": server.ca_path})
        await stop.wait()
