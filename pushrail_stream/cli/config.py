"""``pushrail-stream config``: the settings in force, their first file and their schema."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, note, say

_ORIGIN_COLUMN: Final = 44
"""Where origins begin; longer lines push theirs to the right."""


@click.group(epilog="Example: pushrail-stream config show --config config/pushrail.yaml")
def config() -> None:
    """Show the settings in force, and write their first file and their schema."""


@config.command(epilog="Example: PUSHRAIL_DELIVERY__FLUSH_MS=50 pushrail-stream config show")
@common_options
def show(options: Options) -> None:
    """Print the effective settings as YAML, each with its origin; secrets are masked.

    A property of kafka.client that librdkafka refuses is reported by name, with exit code 2.

    With --json: one object, sections as in the settings file.
    """
    options.refuse_csv()
    loaded = options.load()
    if loaded.settings.kafka.client.reveal():
        from pushrail_stream.kafka.client_properties import checked_kafka

        checked_kafka(loaded.settings)
    values = loaded.settings.model_dump(mode="json")
    if options.json:
        emit(values)
        return
    lines = [(text, loaded.origins.get(key, "default") if key else "") for text, key in _lines(values)]
    for text, origin in lines:
        say(f"{text:<{_ORIGIN_COLUMN}}  # {origin}" if origin else text)


@config.command(epilog="Example: pushrail-stream config init config/pushrail.yaml")
@click.argument("path", type=click.Path(path_type=Path), default="config/pushrail.yaml")
@click.option("--force", is_flag=True, help="Write the file also in place of one that is there.")
@common_options
def init(options: Options, *, path: Path, force: bool) -> None:
    """Write a small settings file to PATH, config/pushrail.yaml by default, and a folder for documents beside it.

    With --json: one object with written.
    """
    from pushrail_stream.operations.first_settings import write_first_settings

    write_first_settings(path, overwrite=force)
    options.answer({"written": str(path)}, f"written: {path}")
    if not options.json:
        create = f"pushrail-stream topics create --config {shlex.quote(str(path))} --dry-run"
        note(f"next: set kafka.bootstrap_servers there, then: {create}")


@config.command(epilog="Example: pushrail-stream config schema > config/pushrail.schema.json")
@common_options
def schema(options: Options) -> None:
    """Print the JSON Schema (2020-12) of the settings file, for editors and CI.

    An editor uses it when the first line of the file is: # yaml-language-server: $schema=pushrail.schema.json
    """
    from pushrail_stream.settings.schema import settings_schema

    options.document(settings_schema())


def _lines(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Lines of YAML, each with the key it sets; none for the line that opens a section."""
    for name, value in values.items():
        if not isinstance(value, dict):
            yield f"{name}: {json.dumps(value, ensure_ascii=False)}", name
            continue
        yield f"{name}:", ""
        for key, inner in value.items():
            yield f"  {key}: {json.dumps(inner, ensure_ascii=False)}", f"{name}.{key}"
