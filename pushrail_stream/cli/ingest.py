"""``pushrail-stream ingest``: accept events over HTTP, and manage the API keys of producers."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from pushrail_stream.cli.options import Options, audited, common_options
from pushrail_stream.cli.output import Column, note
from pushrail_stream.cli.process import allow_many_sockets, on_signal, run_loop

if TYPE_CHECKING:
    from pushrail_stream.ingest.service import RunningIngest
    from pushrail_stream.observe.logging import Logger
    from pushrail_stream.settings.model import Settings


@click.group(
    invoke_without_command=True, epilog="Example: pushrail-stream ingest keys create --vendor acme, then ... ingest"
)
@click.pass_context
@common_options
def ingest(options: Options, context: click.Context) -> None:
    """Accept events over HTTP: POST /v1/events on ingest.host and ingest.port, with an API key.

    The answer is 202 when all in-sync replicas of Kafka have the event. /openapi.json describes the interface, and
    /docs describes it for people. Metrics and health are served on http.host and http.port. SIGTERM or SIGINT end the
    command: it answers the requests that have arrived, and exits 0.

    Run as many processes as you like behind a load balancer that speaks TLS to the outside.
    """
    from pushrail_stream.observe.logging import open_log

    if context.invoked_subcommand is not None:
        return
    settings = options.settings
    log = open_log(options.log_level, as_json=options.json, worker="pushrail-stream-ingest")
    allow_many_sockets()
    log.info("starting", kafka=settings.kafka.bootstrap_servers)
    run_loop(_run(settings, log))
    log.info("stopped")


@ingest.group(epilog="Example: pushrail-stream ingest keys list")
def keys() -> None:
    """Manage the API keys of producers, kept as hashes in the file ingest.keys_file.

    To rotate: `create` a second key for the vendor, give it to the producers, then `revoke` the first. A running ingest
    follows the file within two seconds.
    """


@keys.command(epilog="Example: pushrail-stream ingest keys create --vendor acme")
@click.option("--vendor", help="Make a key for events of this vendor. [default: the setting vendor]")
@common_options
@audited
def create(options: Options, vendor: str | None) -> None:
    """Make a key. It is the last word of the output and is shown only once: the file does not contain it."""
    from pushrail_stream.operations.api_keys import create_api_key

    new, vendor = create_api_key(options.settings, vendor)
    path = options.settings.ingest.keys_file
    options.answer(
        {"id": new.id, "vendor": vendor, "keysFile": str(path), "key": new.secret},
        f"{new.id}: added to {path}, for vendor {vendor}. Keep the key, it is not shown again: {new.secret}",
    )


@keys.command("list", epilog="Example: pushrail-stream ingest keys list --json")
@common_options
def list_(options: Options) -> None:
    """List the keys: id, vendor, and creation and revocation. The file does not contain the keys themselves."""
    from pushrail_stream.operations.api_keys import api_keys

    settings = options.settings
    keys, path = api_keys(settings), settings.ingest.keys_file
    if not path.exists():
        note(f"{path}: there is no such file (ingest.keys_file), so there is no key")
    options.table(
        ("id", "vendor", Column("created", "time"), Column("revoked", "time")),
        ((key.id, key.vendor, _format_second(key.created_at), _format_second(key.revoked_at)) for key in keys),
        (key.model_dump(mode="json", by_alias=True, exclude={"sha256"}) for key in keys),
    )


@keys.command(epilog="Example: pushrail-stream ingest keys revoke k4ab2cdefg")
@click.argument("key_id", metavar="ID")
@common_options
@audited
def revoke(options: Options, key_id: str) -> None:
    """Revoke a key permanently. A running ingest refuses it within two seconds."""
    from pushrail_stream.operations.api_keys import revoke_api_key

    vendor_without_key = revoke_api_key(options.settings, key_id)
    options.answer({"id": key_id, "revoked": True}, f"{key_id}: revoked")
    if vendor_without_key is not None:
        note(f"warning: vendor {vendor_without_key} has no key left")


async def _run(settings: Settings, log: Logger) -> None:
    import asyncio

    from pushrail_stream.ingest.service import run_ingest

    def started(ingesting: RunningIngest) -> None:
        on_signal(ingesting.stop)
        log.info("listening", host=settings.ingest.host, port=ingesting.port, ops_port=ingesting.http_port)

    try:
        await run_ingest(settings, log, started=started)
    except asyncio.CancelledError:
        log.info("stopped_while_starting")


def _format_second(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
