"""Writes the first settings of an installation: a small file, and the folder of destination documents beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pushrail_stream.errors import UsageError
from pushrail_stream.files import reason_of
from pushrail_stream.registry.store import replace_file

_TEXT: Final = """\
# yaml-language-server: $schema=pushrail.schema.json
# Settings of Pushrail Stream. The first line lets editors complete and check this file; its schema comes from
# `pushrail-stream config schema > pushrail.schema.json` in this folder. Every key has a default, and is also an
# environment variable: `pushrail-stream config show` prints the settings in force.

# The vendor of records that have no header pushrail-vendor. Without it, every record needs the header.
# vendor: acme

kafka:
  bootstrap_servers: "localhost:9092"  # host:port, several separated by commas
  group_id: pushrail-stream            # consumer group, shared by all workers of one deployment

registry:
  path: destinations                   # folder of destination documents, one JSON file each
"""


def write_first_settings(path: Path, *, overwrite: bool) -> None:
    """Write a settings file, and make the folders that it needs. Raises `UsageError`, also when the file is there."""
    folder, named = path.parent / "destinations", f"{path}: cannot be written"
    try:
        if path.exists() and not overwrite:
            raise UsageError(f"{path}: is there already; --force writes a new one in its place")
        named = f"{folder}: cannot be made"
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{named}: {reason_of(error)}") from None
    replace_file(path, _TEXT.encode())
