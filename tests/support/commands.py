"""The command line: run in this process (Shell), or as processes with settings and documents in a folder (Desk)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import click
import pytest
import yaml

from pushrail_stream.cli import execute, root
from pushrail_stream.core.destination import Destination
from pushrail_stream.registry.documents import to_document
from pushrail_stream.settings.model import Settings
from tests.support.builders import SECRET
from tests.support.forked_command import run_forked
from tests.support.patience import PATIENCE_SECS


class Desk:
    """Runs commands under these settings, with the documents of ``home/destinations``."""

    def __init__(self, home: Path, settings: Settings, *, client: Mapping[str, Any] | None = None) -> None:
        """``client``: properties of Kafka's client, which settings show without their secrets."""
        self.documents = home / "destinations"
        self.documents.mkdir()
        self.config = home / "pushrail.yaml"
        values = settings.model_dump(mode="json")
        values["registry"]["path"] = str(self.documents)
        values["kafka"]["client"] = dict(client or {})
        self.config.write_text(yaml.safe_dump(values))

    def put(self, destinations: Iterable[Destination]) -> None:
        """Their documents, each with the secret in the environment."""
        for destination in destinations:
            document = to_document(destination)
            document["auth"]["secretAccessKey"] = "env:CUSTOMER_SECRET"
            self.file(destination.id).write_text(json.dumps(document))

    def file(self, destination_id: str) -> Path:
        return self.documents / f"{destination_id}.json"

    async def start(self, *words: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pushrail_stream", *self._words(words)),
            env=self._environ,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def end(self, *words: str, typed: str = "") -> tuple[int | None, str, str]:
        """Exit code, stdout and stderr of a command, however it ends."""
        return await run_forked(self._words(words), self._environ, typed=typed)

    async def run(self, *words: str, typed: str = "", exit_code: int = 0) -> str:
        """Stdout of a command that ends so; stderr where it fails."""
        code, out, err = await self.end(*words, typed=typed)
        assert code == exit_code, out + err
        assert "Traceback" not in err
        return err if exit_code else out

    def _words(self, words: Sequence[str]) -> list[str]:
        return [*words, "--config", str(self.config)]

    @property
    def _environ(self) -> dict[str, str]:
        return os.environ | {"CUSTOMER_SECRET": SECRET}

    async def ask(self, *words: str) -> Any:
        """The one JSON object of a command."""
        return json.loads(await self.run(*words, "--json"))

    async def lines(self, *words: str) -> list[Any]:
        """The JSON lines of a command."""
        return [json.loads(line) for line in (await self.run(*words, "--json")).splitlines()]

    @asynccontextmanager
    async def working(self) -> AsyncIterator[list[str]]:
        """A worker for the length of the block; its log, once it has ended."""
        log: list[str] = []
        process = await self.start("run")
        try:
            yield log
            process.send_signal(signal.SIGTERM)
            _, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECS)
            assert process.returncode == 0, err.decode()
            log += err.decode().splitlines()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


Run = tuple[int, str, str]
"""Exit code, stdout, stderr."""


class Shell:
    """Runs commands; whatever they print must hold none of the secrets."""

    def __init__(self, capsys: pytest.CaptureFixture[str], secrets: Sequence[str]) -> None:
        self._capsys = capsys
        self._secrets = secrets

    def __call__(self, *arguments: str) -> Run:
        code = execute(arguments)
        # Absolute paths are shortened, so that an expected text does not name a temporary folder.
        out, err = (text.replace(f"{Path.cwd()}/", "") for text in self._capsys.readouterr())
        assert not any(secret in out + err for secret in self._secrets)
        return code, out, err


SOURCES = Path(__file__).parents[2]


def program(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The real thing, in a process of its own."""
    return start([sys.executable, "-m", "pushrail_stream", *arguments], **environ)


def start(command: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(SOURCES), **environ}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables)


def walk(command: click.Command, context: click.Context) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, by its words."""
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield tuple(context.command_path.split()[1:]), command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from walk(found, click.Context(found, info_name=name, parent=context))


COMMANDS: Final = dict(walk(root, click.Context(root, info_name="pushrail-stream")))
"""Every command that does something, by its words."""
