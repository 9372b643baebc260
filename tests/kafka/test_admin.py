"""A cluster that is settling is asked again; one that refuses is not."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from pushrail_stream.kafka import admin


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "_PAUSE_SECS", 0.0)


def answers(*codes: int) -> tuple[list[int], object]:
    left = list(codes)

    def ask() -> str:
        if left:
            raise KafkaException(KafkaError(left.pop(0)))
        return "answer"

    return left, ask


def test_a_settling_cluster_is_asked_again() -> None:
    left, ask = answers(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
    assert admin.retry_while_settling(ask) == "answer"  # type: ignore[arg-type]
    assert left == []


def test_other_errors_are_raised_at_once() -> None:
    left, ask = answers(KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException):
        admin.retry_while_settling(ask)  # type: ignore[arg-type]
    assert len(left) == 1


def test_an_unsettled_cluster_is_an_error() -> None:
    left, ask = answers(*[KafkaError.LEADER_NOT_AVAILABLE] * 25)
    with pytest.raises(KafkaException):
        admin.retry_while_settling(ask)  # type: ignore[arg-type]
    assert len(left) == 5
