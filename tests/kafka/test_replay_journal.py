"""The journal of replays on a real Kafka: all of a transaction or nothing, one replay at a time, and no false word."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import replay_journal as module
from pushrail_stream.kafka.replay_journal import ReplayJournal, read_marks
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.settings.model import KafkaSettings
from tests.support.kafka import topics

pytestmark = pytest.mark.kafka


class World(NamedTuple):
    options: KafkaSettings
    retry: str
    marks: str

    def found(self) -> tuple[list[bytes | None], dict[str, bytes]]:
        """Copies and marks as the next replay finds them: its beginning waits for a running commit."""
        ReplayJournal(self.options, self.marks)
        with Scan(self.options, self.retry) as scan:
            return [record.value for batch in scan for record in batch], read_marks(self.options, self.marks)


@pytest.fixture
def world(real_kafka: str) -> Iterator[World]:
    retry, marks = topics.unique_name("retry"), topics.unique_name("replays")
    topics.create_topic(real_kafka, retry, partitions=1)
    topics.create_topic(real_kafka, marks, partitions=1)
    yield World(KafkaSettings(bootstrap_servers=real_kafka, group_id=retry), retry, marks)
    topics.delete_topics(real_kafka, [retry, marks])


def write(journal: ReplayJournal, world: World, name: str) -> None:
    journal.write(world.retry, [(b"k", name.encode(), (("h", b"v"), ("none", None)))], [(name, b"{}")])


def test_copies_and_marks_appear_together(world: World) -> None:
    journal = ReplayJournal(world.options, world.marks)
    write(journal, world, "a")
    write(journal, world, "b")
    assert world.found() == ([b"a", b"b"], {"a": b"{}", "b": b"{}"})
    assert read_marks(world.options, world.marks) == {"a": b"{}", "b": b"{}"}


def test_a_new_replay_ends_the_one_before(world: World) -> None:
    older = ReplayJournal(world.options, world.marks)
    write(older, world, "a")
    newer = ReplayJournal(world.options, world.marks)
    with pytest.raises(OperatorError, match="another replay has been started meanwhile: this one ends here"):
        write(older, world, "b")
    write(newer, world, "c")
    assert world.found() == ([b"a", b"c"], {"a": b"{}", "c": b"{}"})


def test_a_failed_write_undoes_its_transaction(world: World) -> None:
    journal = ReplayJournal(world.options, world.marks)
    large = random.Random(1).randbytes(3_000_000)
    with pytest.raises(OperatorError, match="a transaction failed, nothing of it was written"):
        journal.write(world.retry, [(b"k", b"small", ()), (b"k", large, ())], [("a", b"{}")])
    assert world.found() == ([], {})
    next_one = ReplayJournal(world.options, world.marks)
    write(next_one, world, "b")
    assert world.found() == ([b"b"], {"b": b"{}"})


def committing(monkeypatch: pytest.MonkeyPatch, commit: Callable[[Producer, float], Any]) -> None:
    """Let Kafka's client commit like this."""

    class Strange(Producer):
        def commit_transaction(self, timeout: float = -1) -> Any:
            return commit(super(), timeout)  # type: ignore[arg-type]  # the producer, as its class knows it

    monkeypatch.setattr(module, "Producer", Strange)


def test_an_unanswered_commit_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    unanswered = [KafkaError(KafkaError._TIMED_OUT, "late", retriable=True)]

    def commit(producer: Producer, timeout: float) -> None:
        if unanswered:
            raise KafkaException(unanswered.pop())
        producer.commit_transaction(timeout)

    committing(monkeypatch, commit)
    journal = ReplayJournal(world.options, world.marks)
    write(journal, world, "a")
    assert world.found() == ([b"a"], {"a": b"{}"})


def test_an_unknown_commit_stays_unknown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def commit(producer: Producer, timeout: float) -> None:
        producer.commit_transaction(timeout)
        raise KafkaException(KafkaError(KafkaError._FATAL, "gone", fatal=True))

    committing(monkeypatch, commit)
    journal = ReplayJournal(world.options, world.marks)
    with pytest.raises(OperatorError, match=r"is not known .*: run it again, which repeats nothing that was written"):
        write(journal, world, "a")
    assert world.found() == ([b"a"], {"a": b"{}"})


def test_an_interrupt_before_the_commit_undoes_it(world: World) -> None:
    def copies() -> Iterator[tuple[bytes, bytes, tuple[()]]]:
        yield b"k", b"a", ()
        raise KeyboardInterrupt

    journal = ReplayJournal(world.options, world.marks)
    with pytest.raises(KeyboardInterrupt):
        journal.write(world.retry, copies(), [("a", b"{}")])
    write(journal, world, "b")
    assert world.found() == ([b"b"], {"b": b"{}"})


def test_an_unreachable_broker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_SECS", 1.0)
    with pytest.raises(OperatorError, match=r"no transaction can be begun at 127\.0\.0\.1:1"):
        ReplayJournal(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "any")
