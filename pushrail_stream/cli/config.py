"""``pushrail-stream config``: the settings in force."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, say

_ORIGIN_COLUMN: Final = 44
"""Where origins begin; longer lines push theirs to the right."""


@click.group(epilog="Example: pushrail-stream config show --config config/pushrail.yaml")
def config() -> None:
    """Show the settings in force, and their origins."""


@config.command(epilog="Example: PUSHRAIL_DELIVERY__FLUSH_MS=50 pushrail-stream config show")
@common_options
def show(options: Options) -> None:
    """Print the effective settings as YAML, each with its origin; secrets are masked.

    A property of kafka.client that librdkafka refuses is reported by name, with exit code 2.

    With --json: one object, sections as in the settings file.
    """
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


def _lines(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Lines of YAML, each with the key it sets; none for the line that opens a section."""
    for name, value in values.items():
        if not isinstance(value, dict):
            yield f"{name}: {json.dumps(value, ensure_ascii=False)}", name
            continue
        yield f"{name}:", ""
        for key, inner in value.items():
            yield f"  {key}: {json.dumps(inner, ensure_ascii=False)}", f"{name}.{key}"
