"""One word means one thing: retired names and phrases do not come back, in code, help texts or documents."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from pushrail_stream.cli import root
from tests.test_documents import DOCUMENTS, ROOT, named

RETIRED_NAMES: Final = {
    # Retired: the name in use. The glossary in pushrail_stream/README.md explains the words.
    "HandOver": "Settlement",
    "Conclude": "Settlement",
    "bury": "dead_letter",
    "HandedOver": "Settlement",
    "postpone": "retry_later",
    "Move": "RetryOnTopic",
    "Again": "RetryInMemory",
    "Bury": "DeadLetter",
    "condemned": "count_dead_letter",
    "LookOut": "BusMonitor",
    "look_out": "bus_monitor",
    "Presence": "BusStatus",
    "BusGone": "BusMissing",
    "BusBack": "BusFound",
    "UnderWay": "InFlight",
    "under_way": "in_flight",
    "Intake": "Assignment",
    "Directions": "FlowControl",
    "Consume": "EventConsumer",
    "Redeliver": "RetryConsumer",
    "Deliver": "Dispatcher",
    "HoldLimits": "BufferLimits",
    "Ticket": "PendingRecord",
    "relieve": "shed_load",
    "let_go": "evict",
    "Census": "DispatcherStats",
    "census": "stats",
    "LaneView": "DestinationStats",
    "PartitionView": "PartitionStats",
    "WorkerState": "WorkerStats",
    "StartedAnew": "PartitionRestarted",
    "Trimmed": "RecordsTrimmed",
    "SteppedOver": "OffsetsSkipped",
    "Gate": "EventProducer",
    "KafkaGate": "KafkaEventProducer",
    "Outgoing": "ProducerRecord",
    "Ends": "Watermarks",
    "Upkeep": "RegistryWatcher",
    "Claims": "UniquenessIndex",
    "LiveRegistry": "RegistryWatcher",
    "left_sealed": "leave_sealed",
    "no_keyring": "unseal_without_keyring",
    "turn_age_secs": "poll_age_secs",
    "heir": "next_owner",
    "in_the_way": "blocking_head",
    "RetryCopy": "Copy",
    "DeadLetterCopy": "Copy",
}
PHRASES: Final = (
    "so long", "so many", "so often", "somebody", "anybody", "everybody", "whoever", "nobody", "under way", "anew",
    "lest", "for want of", "for ever", "as it stands", "as they stand", "of which that",
    "good for nothing", "was given up",
)  # fmt: skip
"""Phrases that a reader had to read twice. Plain words say the same."""
SUBJECTS: Final = re.compile(r"^(?:What|Who|Whose|That|Of which|How many|So)\b|[.:;] (?:What|Who|Whose|That) (?!\w+,)")
"""Sentences whose subject is a clause, or that have no subject."""
ELSEWHERE: Final = re.compile(r"\bcontract \d|\bfacts(?:/aws|/AWS| \d|: kafka)|\bdesign\.md|\bdesign: section")
"""References to documents that a reader of this repository cannot reach."""
SOURCES: Final = sorted(path for folder in ("pushrail_stream", "tests") for path in (ROOT / folder).rglob("*.py"))
TEXTS: Final = [*DOCUMENTS, *(ROOT / "deploy").rglob("*.yaml"), *(ROOT / "config").rglob("*.yaml")]


def helps(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """Every help text of the command line, with the words that show it."""
    where = context.command_path
    yield where, command.help or ""
    yield f"{where} (in its group)", command.get_short_help_str(200)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield f"{where} {parameter.opts[0]}", parameter.help or ""
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from helps(found, click.Context(found, info_name=name, parent=context))


def phrases_in(text: str) -> set[str]:
    plain = " ".join(text.split()).lower()
    return {phrase for phrase in PHRASES if re.search(rf"\b{phrase}\b", plain)}


def test_retired_names_are_not_used() -> None:
    used: dict[str, set[str]] = {}
    for path in SOURCES:
        with path.open("rb") as source:
            for token in tokenize.tokenize(source.readline):
                if token.type == tokenize.NAME and token.string in RETIRED_NAMES:
                    used.setdefault(token.string, set()).add(named(path))
    modules = {named(path): path.stem for path in SOURCES if path.stem in RETIRED_NAMES}
    assert (used, modules) == ({}, {})


def test_help_texts_are_plain_sentences() -> None:
    for where, text in helps(root, click.Context(root, info_name="pushrail-stream")):
        assert not phrases_in(text), where
        assert not SUBJECTS.search(" ".join(text.split())), f"{where}: {text}"


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_documents_are_plain_sentences(path: Path) -> None:
    assert not phrases_in(path.read_text())


def test_docstrings_have_a_plain_subject() -> None:
    found = []
    for path in (ROOT / "pushrail_stream").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                if re.match(r"(?:What|Who|Whose|Whoever|Whatever|That) ", text):
                    found.append(f"{named(path)}: {text.splitlines()[0]}")
    assert found == []


def test_comments_cite_reachable_documents() -> None:
    found = {
        named(path) for path in [*SOURCES, *TEXTS] if path != Path(__file__) and ELSEWHERE.search(path.read_text())
    }
    assert found == set()
