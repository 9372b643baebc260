"""All stories told on real brokers: on one at the same time, and on another, which they stop, one by one."""

from __future__ import annotations

import time
import traceback
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, Protocol

from confluent_kafka import TopicPartition

from pushrail_stream.kafka.admin import retry_while_settling
from tests.simulation.parity.real import BROKER_SETTINGS, RealKit
from tests.simulation.parity.stories import Story
from tests.support.kafka.local import LocalKafka
from tests.support.kafka.pair import KafkaPair

_AT_ONCE: Final = 16
"""Stories told at the same time: they wait more than they compute."""


class StartKafka(Protocol):
    """Starts a broker with these settings."""

    def __call__(self, settings: Mapping[str, str], /) -> LocalKafka: ...


class Told(NamedTuple):
    """The observations of a story, and its duration."""

    notes: list[str]
    secs: float


def tell_really(start: StartKafka, stories: Collection[Story], *, at_once: int = _AT_ONCE) -> dict[str, Told]:
    """The notes of each story, by its name. A story that fails ends with a note that begins with FAILED."""
    together = [story for story in stories if not story.is_exclusive]
    alone = [story for story in stories if story.is_exclusive and story.brokers == 1]
    of_two = [story for story in stories if story.brokers > 1]
    with ThreadPoolExecutor(1) as other:
        rest = other.submit(lambda: _tell_of_two(start, of_two) | _tell_all(start, alone, at_once=1))
        return _tell_all(start, together, at_once=at_once) | rest.result()


def _tell_of_two(start: StartKafka, stories: list[Story]) -> dict[str, Told]:
    if not stories:
        return {}
    with KafkaPair(start, BROKER_SETTINGS) as pair:
        return {story.name: _tell(pair, story) for story in stories}


def _tell_all(start: StartKafka, stories: list[Story], *, at_once: int) -> dict[str, Told]:
    if not stories:
        return {}
    kafka = start(BROKER_SETTINGS)
    _warm_up(kafka)
    with ThreadPoolExecutor(at_once) as threads:
        told = threads.map(lambda story: _tell(kafka, story), stories)
        return dict(zip((story.name for story in stories), told, strict=True))


def _tell(kafka: LocalKafka | KafkaPair, story: Story) -> Told:
    begun = time.monotonic()
    with RealKit(story.protocol, kafka) as kit:
        try:
            story.tell(kit)
        except Exception:  # noqa: BLE001 - it becomes the last note, beside those of the other stories
            kit.notes.append(f"FAILED: {traceback.format_exc()}")
        finally:
            if not kafka.running:
                kafka.start()
        return Told(kit.notes, time.monotonic() - begun)


def _warm_up(kafka: LocalKafka) -> None:
    """Let the broker create its own topics, of commits and of transactions: until then it refuses both at first."""
    with RealKit("classic", kafka) as kit:
        topic = kit.new_topic()
        writer = kit.producer({"transactional.id": kit.unique("warm")})
        writer.init_transactions(60)
        with kit.consumer({"group.id": kit.unique("warm")}) as consumer:
            retry_while_settling(lambda: consumer.committed([TopicPartition(topic, 0)], timeout=10))
