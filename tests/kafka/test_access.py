"""The ACLs that each program needs. That they are enough is shown on a real broker by tests/e2e/test_acls.py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pushrail_stream.kafka.access import _ROWS, PROGRAMS, grants, worker_rights
from pushrail_stream.kafka.topics import plan_topics
from pushrail_stream.settings.model import Settings

DOCUMENT: Final = Path(__file__).parents[2] / "deploy/README.md"
ROW: Final = re.compile(r"\| (\w+) \| (topic|group|transactional id) `([\w.]+\*?)`.* \| ([\w, ]+) \|")
ON_A_TOPIC: Final = Settings.model_validate({"registry": {"topic": True}, "audit": {"enabled": True}})


def test_the_document_has_the_same_table() -> None:
    shown = [tuple(row.groups()) for row in ROW.finditer(DOCUMENT.read_text(encoding="utf-8"))]
    prefixed = {"kafka.group_id": "kafka.group_id*"}
    assert shown == [
        (program, resource, prefixed.get(setting, setting), ", ".join(operations))
        for program, resource, setting, operations in _ROWS
    ]


def test_every_program_and_every_topic_is_named() -> None:
    found = grants(ON_A_TOPIC)
    assert {grant.program for grant in found} == set(PROGRAMS)
    assert {grant.name for grant in found if grant.resource == "topic"} == {p.name for p in plan_topics(ON_A_TOPIC)}


def test_names_are_those_of_the_settings() -> None:
    settings = Settings.model_validate(
        {"kafka": {"group_id": "g"}, "topics": {"events": "e", "retry": {"r1": 1, "r2": 2}}}
    )
    ingest = grants(settings, ["ingest"])
    assert [(one.name, one.operations) for one in ingest] == [("e", ("Write", "DescribeConfigs"))]
    assert [one.name for one in grants(settings, ["replays"])] == ["r1", "r2", settings.topics.replays, "g"]
    assert grants(settings, ["changes", "audited"]) == [], "documents are files, and nothing is audited"
    assert [one.name for one in grants(ON_A_TOPIC, ["changes"])] == ["pushrail.destinations"]


def test_a_command_of_kafka_allows_it() -> None:
    *_, group = grants(Settings(), ["commands"])
    assert group.command("kafka:9092", "User:an operator") == (
        "kafka-acls.sh --bootstrap-server kafka:9092 --add --allow-principal 'User:an operator' "
        "--operation Read --group pushrail-stream --resource-pattern-type prefixed"
    )


def test_the_doctor_asks_for_the_rights_without_which_a_worker_cannot_work() -> None:
    rights = worker_rights(ON_A_TOPIC)
    assert rights["pushrail.events"] == {"Read"}
    assert rights["pushrail.retry.2m"] == {"Read", "Write"}
    assert "pushrail.destinations" in rights
    assert "pushrail.destinations" not in worker_rights(Settings())
