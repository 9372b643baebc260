"""A command as a process of its own that begins with the package imported, which is most of a short command's CPU time.

multiprocessing's fork server imports the package once and forks a process for each command. A test of signals, memory
or the start itself starts an interpreter instead (`Desk.start`), as `run` itself starts processes.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pushrail_stream.cli import main
from tests.support.patience import PATIENCE_SECS

_FORK_SERVER: Final = multiprocessing.get_context("forkserver")
_COMMANDS: Final = ("ingest", "topics", "destinations", "attempts", "dlq", "replay", "check", "keys", "config")
_FORK_SERVER.set_forkserver_preload(
    [__name__, *(f"pushrail_stream.cli.{name}" for name in _COMMANDS), "aiobotocore.session", "confluent_kafka.admin"]
)


async def run_forked(
    words: Sequence[str], environ: Mapping[str, str], *, typed: str = "", home: Path | None = None
) -> tuple[int | None, str, str]:
    """The exit code, stdout and stderr of a command that reads ``typed``, in ``home`` as its working directory."""
    with tempfile.TemporaryDirectory(prefix="pushrail-command-") as folder:
        streams = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
        for stream in streams:
            stream.write_text(typed if stream.name == "stdin" else "")
        process = _FORK_SERVER.Process(target=_run, args=(list(words), dict(environ), streams, home), daemon=True)
        await asyncio.to_thread(process.start)  # the first one waits for the fork server's imports
        try:
            await asyncio.wait_for(_readable(process.sentinel), PATIENCE_SECS)
        finally:
            process.kill()
            process.join()
        return process.exitcode, streams[1].read_text(), streams[2].read_text()


async def _readable(descriptor: int) -> None:
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(descriptor)


def _run(words: list[str], environ: dict[str, str], streams: list[Path], home: Path | None) -> None:
    if home is not None:
        os.chdir(home)
    for descriptor, stream in enumerate(streams):
        opened = os.open(stream, os.O_RDONLY if descriptor == 0 else os.O_WRONLY)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["pushrail-stream", *words]
    main()
