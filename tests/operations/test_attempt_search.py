"""The delivery log is searched in the index as far as that goes, and in the topic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer

from pushrail_stream.operations.attempt_index import AttemptIndex
from pushrail_stream.operations.times import now_ms
from pushrail_stream.settings.model import Settings
from tests.support.attempt_log import both, log_of, with_index, write
from tests.support.builders import event
from tests.support.dead_letters import letter
from tests.support.kafka import topics
from tests.support.workers import until

pytestmark = pytest.mark.kafka


async def test_a_fast_clock_hides_no_attempt(real_kafka: str, tmp_path: Path) -> None:
    settings, desk = log_of(real_kafka, tmp_path)
    hour = 3_600_000
    for number, ago in ((1, 3.5), (2, 1), (3, 3), (4, 1), (5, 2.5)):
        write(settings, [number], at_ms=round(now_ms() - ago * hour), key="one partition")
    found = await desk.lines("attempts", "--since", "4h", "--until", "2h")
    assert [line["idempotencyKey"] for line in found] == ["key-1", "key-3", "key-5"]


async def test_index_and_topic_complete_each_other(real_kafka: str, tmp_path: Path) -> None:
    settings, desk = log_of(real_kafka, tmp_path)
    write(settings, range(500))
    with_index(desk, tmp_path / "index.sqlite")
    told = await desk.ask("attempts", "index", "--once")
    assert (told["added"], told["attempts"], told["unreadable"]) == (500, 500, 0)
    again = await desk.ask("attempts", "index", "--once")
    assert (again["added"], again["attempts"]) == (0, 500)
    write(settings, range(500, 600))
    for number in (7, 555):
        [found] = await desk.lines("attempts", "--key", f"key-{number}")
        assert found["attemptId"] == f"a-{number}"
    assert (await desk.ask("attempts", "--summary"))["attempts"] == 600


async def test_since_searches_beyond_the_index(real_kafka: str, tmp_path: Path) -> None:
    settings, desk = log_of(real_kafka, tmp_path)
    path = tmp_path / "index.sqlite"
    day = 86_400_000
    write(settings, range(5), at_ms=now_ms() - 3 * day)
    write(settings, range(5, 8))
    with_index(desk, path)
    assert (await desk.ask("attempts", "index", "--once"))["attempts"] == 8
    told = await desk.ask("attempts", "index", "--once", "--keep", "1")
    assert (told["added"], told["attempts"]) == (0, 3), "there was nothing new, and what is old has gone"
    path.unlink()
    told = await desk.ask("attempts", "index", "--once", "--keep", "1")
    assert (told["added"], told["attempts"]) == (3, 3)
    nothing, remarks = await both(desk, "attempts", "--key", "key-1")
    assert nothing == ""
    assert f"by the index {path}, back to 20" in remarks
    table, remarks = await both(desk, "attempts", "--key", "key-1", "--since", "5d")
    assert "key-1" in table
    assert f"{path} is not used: it goes back to 20" in remarks
    path.unlink()
    with AttemptIndex.open(path, settings.topics.attempts):
        pass
    lines, remarks = await both(desk, "attempts", "--json")
    assert len(lines.splitlines()) == 3, "an index with nothing in it is no reason to read everything"
    assert "--since searches further back" in remarks


async def test_a_recreated_topic_restarts_its_index(real_kafka: str, tmp_path: Path) -> None:
    settings, desk = log_of(real_kafka, tmp_path)
    path = tmp_path / "index.sqlite"
    with_index(desk, path)
    write(settings, range(50))
    assert (await desk.ask("attempts", "index", "--once"))["attempts"] == 50
    topics.delete_topics(real_kafka, [settings.topics.attempts])
    await until(lambda: made_anew(settings))
    write(settings, range(100, 180))
    lines, remarks = await both(desk, "attempts", "--json")
    assert sorted(json.loads(line)["idempotencyKey"] for line in lines.splitlines()) == [
        f"key-{number}" for number in range(100, 180)
    ]
    assert f"{path} is not used: {settings.topics.attempts} was created again" in remarks
    out, remarks = await both(desk, "attempts", "index", "--once", "--json")
    assert (json.loads(out)["added"], json.loads(out)["attempts"]) == (80, 80)
    assert "was created again: the index begins again" in remarks
    lines, remarks = await both(desk, "attempts", "--json")
    assert len(lines.splitlines()) == 80
    assert f"by the index {path}" in remarks


def made_anew(settings: Settings) -> bool:
    """Whether the topic is there again; a deletion takes its time."""
    try:
        topics.create_topic(settings.kafka.bootstrap_servers, settings.topics.attempts, partitions=2)
    except KafkaException:
        return False
    return True


async def test_an_event_without_attempts_is_found_among_the_dead_letters(real_kafka: str, tmp_path: Path) -> None:
    settings, desk = log_of(real_kafka, tmp_path)
    producer = Producer({"bootstrap.servers": real_kafka, "log_level": 0})
    malformed = letter(
        0,
        value=event(0, 1, payload="text", correlationId="req-1"),
        reason="undecodable",
        code="payload",
        destination_id=None,
    )
    for died in (malformed, letter(0)):
        producer.produce(settings.topics.dlq, died.record.value, died.record.key, 0, headers=list(died.record.headers))
    assert producer.flush(30) == 0
    position = f"{settings.topics.dlq}/0/0"
    for words in (
        ("--key", "key-1", "--no-story"),
        ("--correlation-id", "req-1", "--json"),
        ("--key", "key-1", "--summary"),
    ):
        out, err = await both(desk, "attempts", *words)
        named = f"dead letter at {position}: undecodable payload; to see it: pushrail-stream dlq show {position}"
        assert (named in err) == ("--summary" not in words)
        assert ("attempts" in out) == ("--summary" in words)
    assert "dead letter at" not in (await both(desk, "attempts", "--key", "key-1", "--status", "delivered"))[1]
    story, _ = await both(desk, "attempts", "--key", "key-1")
    assert f"dead letter at {position}; to see it: pushrail-stream dlq show {position}" in story
    assert "nothing was found in" in (await both(desk, "attempts", "--key", "other"))[1]
