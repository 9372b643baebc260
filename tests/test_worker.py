"""A worker's event loop: the errors that end the worker, those that are logged, and those that are ignored."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

import pytest
import uvloop

from pushrail_stream import worker
from pushrail_stream.core.commit import MIN_METADATA_CHARS
from pushrail_stream.core.signals import SettingCaveat
from pushrail_stream.kafka.metadata_limit import LIMIT_NAME
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.worker import _check
from tests.support.workers import make_topics, settings_for


async def _write_when_closed() -> RuntimeError:
    """The error that uvloop raises for a write to a closed connection."""
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _reader, writer: accepted.put_nowait(writer), "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    peer = await accepted.get()
    writer.transport.abort()
    await writer.wait_closed()
    with pytest.raises(RuntimeError) as raised:
        cast("asyncio.Transport", writer.transport).write(b"late")
    peer.transport.abort()
    server.close()
    return raised.value


@pytest.mark.parametrize("is_late", [True, False], ids=["on a closed connection", "anything else"])
def test_late_bytes_after_a_close_are_ignored(caplog: pytest.LogCaptureFixture, *, is_late: bool) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            worker.fail_loudly(tasks)
            error = await _write_when_closed() if is_late else RuntimeError("a bug")
            context = {"message": "Fatal error on SSL protocol", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, caplog.at_level(logging.ERROR, "asyncio"):
        runner.run(main())
    assert [record.getMessage() for record in caplog.records] == ([] if is_late else ["Fatal error on SSL protocol"])


def test_an_error_of_a_callback_after_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            worker.fail_loudly(tasks)
        asyncio.get_running_loop().call_soon([].pop)
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, caplog.at_level(logging.ERROR, "asyncio"):
        runner.run(main())
    [told] = caplog.records
    assert told.exc_info is not None
    assert told.exc_info[0] is IndexError


def test_an_error_of_a_callback_ends_the_worker() -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            worker.fail_loudly(tasks)
            asyncio.get_running_loop().call_soon([].pop)
            await asyncio.sleep(60)

    with (
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        pytest.raises(ExceptionGroup, match="unhandled errors"),
    ):
        runner.run(main())


@pytest.mark.parametrize(
    ("limit", "warns"), [(MIN_METADATA_CHARS - 1, True), (MIN_METADATA_CHARS, False), (None, False)]
)
async def test_a_start_tells_that_commits_have_no_room_for_cursors(
    embedded_broker: EmbeddedBroker, limit: int | None, *, warns: bool
) -> None:
    settings = settings_for(embedded_broker.bootstrap_servers, "http://127.0.0.1:1")
    make_topics(settings, embedded_broker)
    caveats = await _check(settings, settings.kafka, limit)
    told = [str(caveat) for caveat in caveats if isinstance(caveat, SettingCaveat) and caveat.setting == LIMIT_NAME]
    assert len(told) == warns
    assert all(f"is {limit} at a broker" in problem and "at least 160" in problem for problem in told)
