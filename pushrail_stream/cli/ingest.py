"""``pushrail-stream ingest``: events over HTTP, and the API keys of those who post them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from pushrail_stream.cli.files import read_if_there
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, note, say, table
from pushrail_stream.cli.process import allow_many_sockets, on_signal, run_loop
from pushrail_stream.errors import UsageError
from pushrail_stream.files import reason_of
from pushrail_stream.ingest.api_keys import ApiKey, parse_keys, with_key_revoked, with_new_key
from pushrail_stream.ingest.service import RunningIngest, run_ingest
from pushrail_stream.observe.logging import Logger, open_log
from pushrail_stream.registry.store import changing_alone, replace_file
from pushrail_stream.settings import Settings
from pushrail_stream.settings.values import VENDOR, check_options


@click.group(
    invoke_without_command=True, epilog="Example: pushrail-stream ingest keys create --vendor acme, then ... ingest"
)
@click.pass_context
@common_options
def ingest(options: Options, context: click.Context) -> None:
    """Take events in over HTTP: POST /v1/events on ingest.host and ingest.port, with an API key.

    An event is answered with 202 when all in-sync replicas of Kafka have it. What this takes is described at
    /openapi.json, and for people at /docs. Metrics and health are served on http.host and http.port. SIGTERM or SIGINT
    end it: what has come in is answered first, and the exit code is 0.

    Run as many as you like behind a load balancer that speaks TLS to the outside.
    """
    if context.invoked_subcommand is not None:
        return
    settings = options.settings
    log = open_log(options.log_level, as_json=options.json, worker="pushrail-stream-ingest")
    allow_many_sockets()
    log.info("starting", kafka=settings.kafka.bootstrap_servers)
    run_loop(_take_in(settings, log))
    log.info("stopped")


@ingest.group(epilog="Example: pushrail-stream ingest keys list")
def keys() -> None:
    """The API keys of those who post events, kept as hashes in the file ingest.keys_file.

    To rotate: `create` a second key for the vendor, give it to the producers, then `revoke` the first. A running ingest
    follows the file within two seconds.
    """


@keys.command(epilog="Example: pushrail-stream ingest keys create --vendor acme")
@click.option("--vendor", help="Whose events may be posted with it. [default: the setting vendor]")
@common_options
def create(options: Options, vendor: str | None) -> None:
    """Make a key. It is the last word of the output, shown this once: nobody can read it from the file."""
    settings = options.settings
    vendor = vendor or settings.vendor
    if vendor is None:
        raise UsageError("--vendor: is missing, and so is the setting vendor")
    check_options(("--vendor", VENDOR, vendor))
    path = settings.ingest.keys_file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path.parent}: cannot be made: {reason_of(error)}") from None
    with changing_alone(path), _named(path):
        new = with_new_key(read_if_there(path, "the file of API keys"), vendor, _now())
        replace_file(path, new.content, is_private=True)
    if options.json:
        emit({"id": new.id, "vendor": vendor, "keysFile": str(path), "key": new.secret})
    else:
        say(f"{new.id}: added to {path}, for vendor {vendor}. Keep the key, it is not shown again: {new.secret}")


@keys.command("list", epilog="Example: pushrail-stream ingest keys list --json")
@common_options
def list_(options: Options) -> None:
    """List the keys: id, vendor, when they were made and revoked. The keys themselves are not there to be shown."""
    rows = _keys(options.settings)
    if options.json:
        for key in rows:
            emit(key.model_dump(mode="json", by_alias=True, exclude={"sha256"}))
        return
    shown = ((key.id, key.vendor, _day(key.created_at), _day(key.revoked_at)) for key in rows)
    table(("id", "vendor", "created", "revoked"), shown)


@keys.command(epilog="Example: pushrail-stream ingest keys revoke k4ab2cdefg")
@click.argument("key_id", metavar="ID")
@common_options
def revoke(options: Options, key_id: str) -> None:
    """Make a key good for nothing, for ever. Running ingests refuse it within two seconds."""
    path = options.settings.ingest.keys_file
    if not path.exists():
        raise UsageError(f"{path}: there is no such file, so no key {key_id}")
    with changing_alone(path), _named(path):
        after = with_key_revoked(read_if_there(path, "the file of API keys") or b"", key_id, _now())
        replace_file(path, after, is_private=True)
    if options.json:
        emit({"id": key_id, "revoked": True})
    else:
        say(f"{key_id}: revoked")
    vendor = next(key.vendor for key in parse_keys(after) if key.id == key_id)
    if not any(key.vendor == vendor and key.revoked_at is None for key in parse_keys(after)):
        note(f"warning: vendor {vendor} has no key left")


async def _take_in(settings: Settings, log: Logger) -> None:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a coroutine runs in a task")
    on_signal(task.cancel)

    def started(ingesting: RunningIngest) -> None:
        on_signal(ingesting.stop)
        log.info("listening", host=settings.ingest.host, port=ingesting.port, ops_port=ingesting.http_port)

    try:
        await run_ingest(settings, log, started=started)
    except asyncio.CancelledError:
        log.info("stopped_while_starting")


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Puts the file's name before what is wrong with its content."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None


def _keys(settings: Settings) -> tuple[ApiKey, ...]:
    path = settings.ingest.keys_file
    content = read_if_there(path, "the file of API keys")
    if content is None:
        return ()
    with _named(path):
        return parse_keys(content)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _day(moment: datetime | None) -> str:
    return "" if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
