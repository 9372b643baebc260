"""The commands that search the delivery log, with and without an index."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from pushrail_stream.operations.attempt_index import AttemptIndex
from pushrail_stream.operations.attempts import AttemptFilter
from pushrail_stream.settings.model import Settings
from tests.support.attempt_log import both, log_of, with_index, write
from tests.support.builders import event
from tests.support.commands import Desk
from tests.support.patience import PATIENCE_SECS
from tests.support.replay_world import DENIED, settled, world
from tests.support.workers import produce, settings_for, until

pytestmark = pytest.mark.kafka


async def test_an_event_is_found_by_any_of_its_keys(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        bus.set_plan([DENIED])
        async with desk.working():
            await produce(settings, [("acct_0", event(0, 1)), ("acct_1", event(1, 2, correlationId="req_1"))])
            await produce(settings, [("acct_9", event(9, 3))])
            await settled(settings, 1)
            await bus.wait_for_arrivals(1)
        # A slow machine may have made a second attempt: then there is word of the first, too.
        tried = by_id(await desk.lines("attempts", "--key", "key-2"))
        [delivered] = [attempt for attempt in tried.values() if attempt["status"] == "delivered"]
        assert delivered["destinationId"] == "dst_1"
        assert delivered["eventBridgeEventId"] in {arrival.event_id for arrival in bus.arrivals}
        origin = "{topic}/{partition}/{offset}".format(**delivered["origin"])
        for words in (
            ["--origin", origin], ["--correlation-id", "req_1"], ["--customer", "acct_1"], ["--destination", "dst_1"],
            ["--customer", "acct_1", "--since", "1h", "--event-type", "order.completed"],
        ):  # fmt: skip
            assert by_id(await desk.lines("attempts", *words)) == tried, words
        assert await desk.lines("attempts", "--status", "delivered") == [delivered]
        [refused] = await desk.lines("attempts", "--code", "AccessDeniedException")
        assert (refused["status"], refused["reason"]) == ("dead_lettered", "blocked")
        [skipped] = await desk.lines("attempts", "--status", "skipped")
        assert skipped["reason"] == "no_destination"
        assert await desk.lines("attempts", "--key", "nobody") == []
        assert await desk.lines("attempts", "--until", "1h") == []
        told = await desk.ask("attempts", "--summary")
        assert told["byStatus"].items() >= {"dead_lettered": 1, "delivered": 1, "skipped": 1}.items()
        assert told["byCode"]["AccessDeniedException"] == 1
        assert told["deadLetteredByFault"] == {"customer": 1}
        states = {one["id"]: (one["state"], one["code"]) for one in await desk.lines("destinations", "list", "--state")}
        assert (states["dst_0"], states["dst_1"]) == (("blocked", "AccessDeniedException"), ("ok", None))
        assert states["dst_2"] == (None, None)
        assert "AccessDeniedException" in await desk.run("destinations", "list", "--state")
        await desk.run("destinations", "disable", "dst_0")
        [disabled] = await desk.lines("destinations", "list", "--state", "disabled")
        assert (disabled["id"], disabled["state"], disabled["code"]) == ("dst_0", "disabled", None)
        assert "--until" in await desk.run("attempts", "--since", "1h", "--until", "2h", exit_code=2)


def by_id(attempts: list[Any]) -> dict[str, Any]:
    return {attempt["attemptId"]: attempt for attempt in attempts}


async def test_contradictory_options_are_refused(tmp_path: Path) -> None:
    settings = settings_for("127.0.0.1:1", "http://127.0.0.1:1")
    desk = Desk(tmp_path, settings)
    for words, why in (
        (["--status", "lost"], "error: Invalid value for '--status'"),
        (["--follow", "--summary"], "error: --summary: cannot be used with --follow, which has no end"),
        (["--key", "k", "index"], "error: options stand behind index"),
        (["index"], "error: history.index: is not set"),
    ):
        assert (await desk.run("attempts", *words, exit_code=2)).startswith(why), words


@pytest.mark.parametrize("is_indexed", [True, False], ids=["index", "topic"])
async def test_a_table_shows_the_newest_in_time_order(real_kafka: str, tmp_path: Path, *, is_indexed: bool) -> None:
    settings, desk = log_of(real_kafka, tmp_path)
    write(settings, range(1200, 0, -1))
    if is_indexed:
        with_index(desk, tmp_path / "index.sqlite")
        await desk.ask("attempts", "index", "--once")
    write(settings, [1201])
    for words, shown in (
        (["--limit", "3"], range(1199, 1202)),
        ([], range(202, 1202)),
        (["--customer", "acct_1", "--limit", "2"], [1198, 1201]),
        (["--limit", "1201"], range(1, 1202)),
    ):
        table, remarks = await both(desk, "attempts", *words)
        keys = [line.split()[5] for line in table.splitlines()[1:]]
        assert keys == [f"key-{number}" for number in shown], words
        assert ("there are more (--limit, or --json for all)" in remarks) == (words != ["--limit", "1201"])
    assert "there are more (--limit)" in (await both(desk, "attempts", "--limit", "2", "--json"))[1]
    newest = await desk.lines("attempts", "--limit", "2")
    assert [line["idempotencyKey"] for line in newest] == ["key-1200", "key-1201"]
    assert len(await desk.lines("attempts")) == 1201


async def test_a_killed_index_has_no_duplicates(real_kafka: str, tmp_path: Path) -> None:
    settings, desk = log_of(real_kafka, tmp_path)
    path = tmp_path / "index.sqlite"
    with_index(desk, path)
    total, kills = 0, 0
    while kills < 2:
        # There is something for each to do, however far the one before it came.
        write(settings, range(total, total := total + 25_000))
        before = indexed(path, settings)
        process = await desk.start("attempts", "index")
        await until(lambda: process.returncode is not None or indexed(path, settings) > before)  # noqa: B023
        assert process.returncode is None
        process.kill()
        await process.wait()
        kills += 1
    process = await desk.start("attempts", "index", "--json")
    await until(lambda: indexed(path, settings) == total)
    write(settings, range(total, total + 10))
    await until(lambda: indexed(path, settings) == total + 10)
    process.send_signal(signal.SIGTERM)
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_SECS)
    assert process.returncode == 0
    assert json.loads(out)["attempts"] == total + 10
    with AttemptIndex.open(path, settings.topics.attempts) as index:
        keys = {attempt.get("idempotencyKey") for attempt in index.find(AttemptFilter())}
        assert len(keys) == index.count() == total + 10
        assert sum(index.offsets().values()) == total + 10


async def test_the_log_is_followed_until_interrupted(real_kafka: str, tmp_path: Path) -> None:
    settings, desk = log_of(real_kafka, tmp_path)
    write(settings, range(3))
    process = await desk.start("attempts", "--follow", "--since", "2026-01-01T00:00:00Z", "--key", "key-9", "--json")
    assert process.stdout is not None
    write(settings, range(3, 12))
    async with asyncio.timeout(PATIENCE_SECS):
        assert json.loads(await process.stdout.readline())["attemptId"] == "a-9"
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECS)
    assert process.returncode == 130
    assert b"Traceback" not in err


def indexed(path: Path, settings: Settings) -> int:
    if not path.exists():
        return 0
    with AttemptIndex.open(path, settings.topics.attempts) as index:
        return index.count()
