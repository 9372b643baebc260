"""A process that waits for Kafka at its start ends at once on a signal."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import Desk
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import settings_for, until


@pytest.fixture(params=["refuses", "is silent"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """An address where no Kafka answers: no process listens there, or a server that stays silent."""
    if request.param == "refuses":
        yield "127.0.0.1:1"
        return
    with socket.create_server(("127.0.0.1", 0)) as door:
        yield f"127.0.0.1:{door.getsockname()[1]}"


def catches(number: signal.Signals, pid: int) -> bool:
    """Whether the process has a handler for the signal: see proc_pid_status(5), SigCgt."""
    [mask] = [line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigCgt" in line]
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("from_topic", [False, True])
@pytest.mark.parametrize("words", [("run",), ("run", "--workers", "2"), ("ingest",)])
async def test_a_signal_ends_a_start_without_kafka(
    tmp_path: Path,
    address: str,
    words: tuple[str, ...],
    from_topic: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text('{"keys": []}')
    settings = settings_for(address, "http://127.0.0.1:1", ingest={"port": 0, "keys_file": keys})
    settings = settings.model_copy(update={"registry": settings.registry.model_copy(update={"topic": from_topic})})
    process = await Desk(tmp_path, settings).start(*words)
    assert process.stderr is not None
    try:
        assert json.loads(await process.stderr.readline())["event"] == "starting"
        await until(lambda: catches(signal.SIGTERM, process.pid))  # a signal before that ends it as well
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, rest = await asyncio.wait_for(process.communicate(), PATIENCE_SECS)
        assert (process.returncode, b"Traceback" in rest) == (0, False), rest.decode()
        assert time.monotonic() - begun < 15, "it did not wait until Kafka's answer was given up"
        assert rest.count(b'"stopped"') == 1, "the workers are not started before Kafka answers"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
