"""The commands about topics, and the advice to run them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.kafka.topics import create_topic
from tests.support.worker_process import FAILED, call, write_world
from tests.support.workers import settings_for

pytestmark = pytest.mark.kafka


def test_a_missing_topic_names_its_command(real_kafka: str, tmp_path: Path) -> None:
    settings = settings_for(real_kafka, "http://127.0.0.1:1")
    path = write_world(tmp_path, settings, 1)
    done = call("run", "--config", str(path), "--log-level", "error")
    assert done.returncode == FAILED
    assert done.stderr.count("\n") == 1
    assert settings.topics.events in done.stderr
    assert "topics create" in done.stderr

    planned = call("topics", "create", "--config", str(path), "--dry-run", "--json")
    assert planned.returncode == 0
    assert call("topics", "describe", "--config", str(path)).returncode == FAILED
    made = call("topics", "create", "--config", str(path), "--partitions", "3", "--json")
    assert {json.loads(line)["state"] for line in made.stdout.splitlines()} == {"created"}
    again = call("topics", "create", "--config", str(path), "--json")
    assert {json.loads(line)["state"] for line in again.stdout.splitlines()} == {"exists"}
    described = call("topics", "describe", "--config", str(path), "--json")
    assert described.returncode == 0
    states = {state["topic"]: state for state in map(json.loads, described.stdout.splitlines())}
    assert states[settings.topics.events]["partitions"] == 3
    assert states[settings.topics.destinations]["config"]["cleanup.policy"] == "compact"
    assert int(states[settings.topics.dlq]["config"]["max.message.bytes"]) > int(
        states[settings.topics.events]["config"]["max.message.bytes"]
    ), "a copy has headers besides"


def test_a_lossy_documents_topic_is_refused(real_kafka: str, tmp_path: Path) -> None:
    settings = settings_for(real_kafka, "http://127.0.0.1:1")
    path = write_world(tmp_path, settings, 1)
    topic = settings.topics.destinations
    create_topic(real_kafka, topic, partitions=3, config={"cleanup.policy": "delete"})
    for word in ("create", "describe"):
        done = call("topics", word, "--config", str(path))
        assert done.returncode == FAILED
        [row] = [line for line in done.stdout.splitlines() if line.startswith(topic)]
        assert "partitions=3 (has to be 1), cleanup.policy=delete (has to be compact)" in row
        as_json = call("topics", word, "--config", str(path), "--json")
        assert as_json.returncode == FAILED
        states = {state["topic"]: state for state in map(json.loads, as_json.stdout.splitlines())}
        assert [(d["setting"], d["losesData"]) for d in states[topic]["deviations"]] == [
            ("partitions", True),
            ("cleanup.policy", True),
        ]
    for words in (("run",), ("destinations", "put", str(tmp_path / "destinations/0.json"))):
        done = call(
            *words, "--config", str(path), environment={"PUSHRAIL_REGISTRY__TOPIC": "true"} | {"CUSTOMER_SECRET": "any"}
        )
        assert done.returncode == FAILED
        assert f"topic {topic}: cleanup.policy is delete, and must be compact" in done.stderr
        assert "kafka-configs.sh" in done.stderr
        assert "Traceback" not in done.stderr
