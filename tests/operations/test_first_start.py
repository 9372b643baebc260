"""A group that has never committed an offset does not deliver all history without a word."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from pathlib import Path

import pytest
import yaml
from confluent_kafka.admin import AdminClient, NewPartitions

from pushrail_stream.errors import OperatorError, UsageError
from pushrail_stream.operations import first_start
from pushrail_stream.operations.first_start import NewGroup, Start, decide_start, find_new_group
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import Settings
from tests.support.builders import SECRET, event, with_access_key
from tests.support.commands import Desk
from tests.support.patience import PATIENCE_SECS
from tests.support.replay_world import world
from tests.support.workers import PARTITIONS, committed, ends, outside, produce, running, until

pytestmark = pytest.mark.kafka
EVENTS = [(f"acct_{n % 4}", event(n % 4, n)) for n in range(30)]


def beginning(settings: Settings, start: Start | None, **client: str) -> Settings:
    kafka = settings.kafka.model_copy(update={"start": start, "client": type(settings.kafka.client)(client)})
    return settings.model_copy(update={"kafka": kafka})


def configure(desk: Desk, start: Start) -> None:
    """Set `kafka.start` in the settings file."""
    values = yaml.safe_load(desk.config.read_text())
    values["kafka"]["start"] = start
    desk.config.write_text(yaml.safe_dump(values))


def told(settings: Settings) -> str:
    return (
        f"group {settings.kafka.group_id} has never committed an offset: 30 records of {settings.topics.events} "
        "would be delivered, also those that another group has delivered"
    )


def messages(log: list[str]) -> list[str]:
    lines = [json.loads(line) for line in log if line.startswith("{")]
    return [line["message"] for line in lines if line["event"] == "first_start"]


async def new_group_in(settings: Settings) -> NewGroup:
    found = await asyncio.to_thread(find_new_group, settings)
    assert found is not None
    return found


async def test_without_a_terminal_a_new_group_goes_on_with_one_warning(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        assert await asyncio.to_thread(find_new_group, settings) is None, "there is nothing to deliver"
        await produce(settings, EVENTS)
        async with desk.working() as log:
            await bus.wait_for_arrivals(30)
            await until(lambda: committed(settings) == ends(settings, settings.topics.events))
        assert messages(log) == [f"{told(settings)}. It begins at the earliest"]
        async with desk.working() as log:
            await produce(settings, [("acct_0", event(0, 31))])
            await bus.wait_for_arrivals(31)
        assert messages(log) == [], "the group is not new any more"


async def test_several_workers_say_it_once(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        await produce(settings, EVENTS)
        configure(desk, "refuse")
        process = await desk.start("run", "--workers", "2", "--from-beginning")
        await bus.wait_for_arrivals(30)
        process.terminate()
        _, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECS)
        assert process.returncode == 0
        assert messages(err.decode().splitlines()) == [f"{told(settings)}. It begins at the earliest"]


async def test_a_group_that_begins_at_the_end_commits_it(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        await produce(settings, EVENTS)
        configure(desk, "latest")
        async with desk.working() as log:
            await until(lambda: sum(committed(settings).values()) == 30)
            await produce(settings, [("acct_1", event(1, 31))])
            await bus.wait_for_arrivals(1)
        [arrival] = bus.arrivals
        assert arrival.detail.encode() == event(1, 31)
        assert messages(log) == [f"{told(settings)}. It begins at the end instead (kafka.start: latest)"]


async def test_waiting_retries_are_history_too(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (_, settings, _desk):
        [retry] = settings.topics.retry
        await produce(settings, EVENTS)
        topics = settings.topics.model_copy(update={"events": retry})
        await produce(settings.model_copy(update={"topics": topics}), EVENTS[:7])
        new_group = await new_group_in(settings)
        assert f"30 records of {settings.topics.events} and 7 of the retry topics would be" in str(new_group)
        await asyncio.to_thread(decide_start, beginning(settings, "latest"), new_group, None)
        assert committed(settings) == ends(settings, settings.topics.events)
        assert committed(settings, retry) == ends(settings, retry)
        assert await asyncio.to_thread(find_new_group, settings) is None


async def test_a_refused_start_says_what_to_do(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        await produce(settings, EVENTS)
        configure(desk, "refuse")
        err = await desk.run("run", exit_code=2)
        assert f"error: {told(settings)}. To deliver them: `pushrail-stream run --from-beginning`. " in err
        await desk.run("replay", "offsets", "--to", "latest")
        async with desk.working() as log:
            await produce(settings, [("acct_1", event(1, 31))])
            await bus.wait_for_arrivals(1)
        assert messages(log) == []


@pytest.mark.parametrize("answer", ["y", "n"])
async def test_a_person_is_asked(real_kafka: str, tmp_path: Path, answer: str) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        await produce(settings, EVENTS)
        code, screen = await on_a_terminal(desk, answer, bus.wait_for_arrivals(30 if answer == "y" else 0))
        assert f"{told(settings)}. Begin at the earliest? [y/N]: " in screen
        assert ("To begin after them: " in screen) == (answer == "n")
        assert (code, len(bus.arrivals)) == ((0, 30) if answer == "y" else (2, 0))


async def on_a_terminal(desk: Desk, answer: str, done: object) -> tuple[int | None, str]:
    """Exit code and screen of `run` on a terminal, where the question is answered."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pushrail_stream", "run", "--config", str(desk.config)),
        env=os.environ | {"CUSTOMER_SECRET": SECRET, "COLUMNS": "500"},
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    screen = bytearray()

    def read(until: bytes) -> None:
        while until not in screen:
            try:
                screen.extend(os.read(ours, 4_096))
            except OSError:  # the last process that had the terminal has ended
                return

    try:
        async with asyncio.timeout(PATIENCE_SECS):
            await asyncio.to_thread(read, b"[y/N]: ")
            os.write(ours, f"{answer}\n".encode())
            await done  # type: ignore[misc]
            if answer == "y":
                process.terminate()
            await asyncio.to_thread(read, b"nothing ends the screen but the process")
            return await process.wait(), screen.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)


async def test_new_partitions_of_an_old_group_are_read_from_the_first(real_kafka: str, tmp_path: Path) -> None:
    async with world(real_kafka, tmp_path) as (bus, settings, desk):
        await produce(settings, EVENTS)
        configure(desk, "latest")
        async with desk.working():
            await until(lambda: sum(committed(settings).values()) == 30)
            await produce(settings, [("acct_1", event(1, 31))])
            await bus.wait_for_arrivals(1)
        bus.clear()
        admin = AdminClient({"bootstrap.servers": real_kafka, "log_level": 0})
        [made] = admin.create_partitions([NewPartitions(settings.topics.events, PARTITIONS + 3)]).values()
        await asyncio.to_thread(made.result)
        more = [(f"acct_{n % 4}", event(n % 4, n)) for n in range(100, 140)]
        await until(lambda: len(ends(settings, settings.topics.events)) == PARTITIONS + 3)
        await produce(settings, more, partitioner="random")
        assert await asyncio.to_thread(find_new_group, settings) is None
        async with desk.working() as log:
            await bus.wait_for_arrivals(40)
        assert {arrival.detail.encode() for arrival in bus.arrivals} == {value for _, value in more}
        assert messages(log) == []


async def test_workers_that_start_together_agree_on_the_end(embedded_broker: EmbeddedBroker) -> None:
    """One has committed the end and joined the group between the question and the commit of the other."""
    async with outside(embedded_broker) as (bus, settings):
        await produce(settings, EVENTS)
        new_group = await new_group_in(settings)
        latest = beginning(settings, "latest")
        await asyncio.to_thread(decide_start, latest, new_group, None)
        before = committed(settings)
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, [("acct_0", event(0, 31))])
            await bus.wait_for_arrivals(1)
            await worker.settled(1)
            assert "at the end instead" in await asyncio.to_thread(decide_start, latest, new_group, None)
        assert sum(committed(settings).values()) == sum(before.values()) + 1


async def test_a_refused_commit_of_the_end_stops_the_start(
    embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with outside(embedded_broker) as (_, settings):
        await produce(settings, EVENTS)
        new_group = await new_group_in(settings)

        def refuse(*_: object, **__: object) -> None:
            raise OperatorError("group could not be moved")

        monkeypatch.setattr(first_start, "move_group", refuse)
        with pytest.raises(OperatorError, match="could not be moved"):
            await asyncio.to_thread(decide_start, beginning(settings, "latest"), new_group, None)


async def test_an_operator_whose_reset_is_an_error_is_not_asked(embedded_broker: EmbeddedBroker) -> None:
    async with outside(embedded_broker) as (_, settings):
        await produce(settings, EVENTS)
        strict = {"auto.offset.reset": "error"}
        assert await asyncio.to_thread(find_new_group, beginning(settings, None, **strict)) is None
        assert await asyncio.to_thread(find_new_group, beginning(settings, "latest", **strict)) is not None


def test_the_setting_is_stronger_than_the_person() -> None:
    new_group = NewGroup("group", "events", 1_234, 0)
    assert "1,234 records" in str(new_group)
    with pytest.raises(UsageError, match=r"^group group has never"):
        decide_start(beginning(Settings(), "refuse"), new_group, lambda _: True)
    assert decide_start(beginning(Settings(), "earliest"), new_group, lambda _: False).endswith(
        "begins at the earliest"
    )
    assert decide_start(Settings(), new_group, None).endswith("begins at the earliest")
    with pytest.raises(UsageError):
        decide_start(Settings(), new_group, lambda _: False)
