"""The commands for producers: what they print, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from confluent_kafka import Producer

from pushrail_stream.events import Problem
from pushrail_stream.operations.event_files import CheckedEvent
from pushrail_stream.sandbox.broker import EmbeddedBroker
from tests.support.builders import event
from tests.support.commands import Shell
from tests.support.kafka.topics import unique_name

pytestmark = pytest.mark.usefixtures("one_destination")


def test_the_schema_is_the_file_of_the_package(shell: Shell) -> None:
    shipped = json.loads(resources.files("pushrail_stream.events").joinpath("event.schema.json").read_bytes())
    for words in (("events", "schema"), ("events", "schema", "--json")):
        code, out, _ = shell(*words)
        assert (code, json.loads(out)) == (0, shipped)


def test_the_asyncapi_document_names_the_topic_of_the_settings(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHRAIL_TOPICS__EVENTS", "orders")
    code, out, _ = shell("events", "asyncapi")
    assert (code, json.loads(out)["channels"]["events"]["address"]) == (0, "orders")


def test_a_good_file_passes(shell: Shell) -> None:
    Path("good.jsonl").write_bytes(event() + b"\n" + event())
    assert shell("events", "check", "good.jsonl") == (0, "good.jsonl: 2 valid\n", "")
    assert shell("events", "check", "good.jsonl", "--json") == (0, "", "")


def test_a_bad_event_is_a_row_and_exit_code_1(shell: Shell) -> None:
    Path("bad.jsonl").write_bytes(event() + b"\n" + event(eventType="", payload=3))
    code, out, err = shell("events", "check", "bad.jsonl")
    assert (code, err) == (1, "error: bad.jsonl: 1 of 2 events break a rule\n")
    assert [line.split(maxsplit=2) for line in out.splitlines()] == [
        ["line", "field", "problem"],
        ["2", "eventType", "has 0 characters, not 1 to 128"],
        ["2", "payload", "is a JSON number, not a JSON object"],
    ]
    code, out, _ = shell("events", "check", "bad.jsonl", "--json")
    assert code == 1
    assert json.loads(out.splitlines()[0]) == {
        "line": 2,
        "field": "eventType",
        "problem": "has 0 characters, not 1 to 128",
    }


@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_a_bad_event_is_named_before_the_next_is_read(
    form: str, shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = iter(range(1, 5))

    def check(_: object) -> Iterator[CheckedEvent]:
        for line in lines:
            out, _ = capsys.readouterr()
            assert line == 1 or f"problem {line - 1}" in out
            yield CheckedEvent(line, [Problem("payload", f"problem {line}")])

    monkeypatch.setattr("pushrail_stream.operations.event_files.check_events", check)
    Path("bad.jsonl").touch()
    code, out, err = shell("events", "check", "bad.jsonl", "--output", form)
    assert (code, err) == (1, "error: bad.jsonl: 4 of 4 events break a rule\n")
    assert "problem 4" in out
    assert not list(lines)


def test_the_verdict_is_of_all_events(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the reader of the rows leaves early."""

    def close(*_: object, **__: object) -> None:
        raise BrokenPipeError

    Path("bad.jsonl").write_bytes(b"\n".join([b"{}", event(), b"{}"]))
    monkeypatch.setattr("pushrail_stream.cli.output.table", close)
    monkeypatch.setattr("pushrail_stream.cli.options.table", close)
    code, _, err = shell("events", "check", "bad.jsonl")
    assert (code, err) == (1, "error: bad.jsonl: 2 of 3 events break a rule\n")


def test_an_empty_file_is_a_mistake(shell: Shell) -> None:
    Path("empty.json").touch()
    assert shell("events", "check", "empty.json") == (2, "", "error: empty.json: has no event\n")


@pytest.mark.kafka
def test_schemas_of_the_topic_go_to_files_or_to_stdout(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, embedded_broker: EmbeddedBroker
) -> None:
    topic = unique_name("events")
    embedded_broker.create_topic(topic, 1)
    producer = Producer({"bootstrap.servers": embedded_broker.bootstrap_servers, "log_level": 0})
    for value in (event(), b"{", event(eventType="order.refunded")):
        producer.produce(topic, value)
    assert producer.flush(30) == 0
    monkeypatch.setenv("PUSHRAIL_KAFKA__BOOTSTRAP_SERVERS", embedded_broker.bootstrap_servers)
    monkeypatch.setenv("PUSHRAIL_TOPICS__EVENTS", topic)
    monkeypatch.setenv("PUSHRAIL_VENDOR", "acme")

    code, out, err = shell("events", "schema", "--eventbridge", "--out", "schemas")
    assert (code, err) == (0, "records left out, because they are no canonical event or nested too deeply: 1\n")
    files = ["pushrail.acme@OrderCompleted.json", "pushrail.acme@OrderRefunded.json"]
    assert [line.split()[-1] for line in out.splitlines()[1:]] == [f"schemas/{name}" for name in files]
    assert sorted(path.name for path in Path("schemas").iterdir()) == files
    content = json.loads(Path("schemas", files[0]).read_text())
    assert content["components"]["schemas"]["AWSEvent"]["x-amazon-events-source"] == "pushrail.acme"

    Path("file").touch()
    code, out, err = shell("events", "schema", "--eventbridge", "--out", "file/schemas")
    assert (code, out, err) == (2, "", "error: --out: file/schemas: cannot be written: not a directory\n")

    code, out, _ = shell("events", "schema", "--eventbridge", "--format", "jsonschemadraft4", "--json", "--events", "1")
    [created] = map(json.loads, out.splitlines())
    assert (created["SchemaName"], created["Type"]) == ("pushrail.acme@OrderRefunded", "JSONSchemaDraft4")
    assert json.loads(created["Content"])["title"] == "OrderRefunded"


def test_the_options_of_inference_need_it(shell: Shell) -> None:
    code, out, err = shell("events", "schema", "--out", "schemas")
    assert (code, out) == (2, "")
    assert err.startswith("error: --out: needs --eventbridge\n")
