"""The tables for ClickHouse take every record of the attempts log, column by column, and each once.

They need chdb, ClickHouse in a Python package of 900 MB, which is not among the tools that `make setup` installs:
`.venv/bin/pip install chdb` and run this file alone.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.support.attempt_records import said
from tests.support.tools import optional_package

DDL = Path(__file__).parents[2] / "deploy" / "clickhouse" / "attempts.sql"
FULL = said(
    1, durationMs=12.5, httpStatus=200, requestId="r-1", batchSize=3, batchIndex=2, entryBytes=812, busArn="arn:x",
    correlationId="req_1", nextAttemptAt="2026-11-24T10:00:10.250Z", replayId="rp-1", reason="throttled",
    code="ThrottlingException", message="slow down", status="retrying",
    origin={"topic": "pushrail.events", "partition": 0, "offset": 1, "topicId": "xTz2mJGYQ9uP8cVd0eLw3A"},
)  # fmt: skip


def statements() -> list[str]:
    """The statements as they ship, but for the queue: no Kafka here, so a table that forgets takes its place."""
    text = re.sub(r"--[^\n]*", "", DDL.read_text())
    text = re.sub(r"ENGINE = Kafka\s+SETTINGS[^;]*", "ENGINE = Null", text)
    text = text.replace("raw String\n", "raw String, _partition UInt64, _offset UInt64\n")
    return [statement for statement in text.split(";") if statement.strip()]


def test_every_contract_field_is_a_column() -> None:
    design = (
        "attemptId at durationMs vendor customerExternalId destinationId eventType idempotencyKey correlationId "
        "trigger attempt status reason code message httpStatus requestId eventBridgeEventId batchSize batchIndex "
        "entryBytes busArn nextAttemptAt replayId originTopic originTopicId originPartition originOffset"
    )
    table = DDL.read_text().partition("EXISTS attempts\n")[2].partition("ENGINE")[0]
    columns = set(re.findall(r"^    (\w+) (?!by_)", table, re.MULTILINE))
    assert set(design.split()) <= columns
    assert all(f" AS {name}" in DDL.read_text() for name in design.split())


def test_records_arrive_column_by_column(tmp_path: Path) -> None:
    session = optional_package("chdb.session", "900 MB: .venv/bin/pip install chdb, to try the tables for ClickHouse")
    database: Any = session.Session(str(tmp_path / "clickhouse"))
    database.query("CREATE DATABASE pushrail")
    database.query("USE pushrail")
    for statement in statements():
        database.query(statement)
    for offset, raw in enumerate([json.dumps(FULL), "no json", json.dumps(said(2)), json.dumps(FULL)]):
        quoted = raw.replace("\\", "\\\\").replace("'", "\\'")
        database.query(f"INSERT INTO attempts_queue VALUES ('{quoted}', 0, {min(offset, 3) % 3})")  # noqa: S608
    found = database.query("SELECT * FROM attempts FINAL ORDER BY attemptId FORMAT JSONEachRow").bytes().decode()
    rows = [json.loads(line) for line in found.splitlines()]
    assert [row["attemptId"] for row in rows] == ["a-1", "a-2"]
    first = rows[0]
    for name, value in FULL.items():
        match name:
            case "at" | "nextAttemptAt":
                assert first[name] == value.replace("T", " ").rstrip("Z")
            case "origin":
                assert int(first["originOffset"]) == value["offset"]
                assert (first["originTopic"], first["originPartition"]) == (value["topic"], value["partition"])
                assert first["originTopicId"] == value["topicId"]
            case _:
                assert first[name] == value, name
    assert rows[1]["nextAttemptAt"] is None
