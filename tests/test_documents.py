"""The documents against the code: shown commands, settings and files exist."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Final, get_args

import click
import pytest

from pushrail_stream.cli import root
from pushrail_stream.core import headers
from pushrail_stream.core.delivery import Trigger
from pushrail_stream.core.retry import DeadReason, RetryReason
from pushrail_stream.core.signals import SkipReason
from pushrail_stream.sandbox.demo.customers import CUSTOMERS, NOBODY
from tests.support.commands import COMMANDS

ROOT: Final = Path(__file__).parents[1]
README: Final = ROOT / "README.md"
CONTRACTS: Final = (ROOT / "pushrail_stream" / "CONTRACTS.md").read_text()
DOCUMENTS: Final = sorted(
    path
    for folder in (".", ".github", "deploy", "pushrail_stream")
    for path in (ROOT / folder).glob("*.md")
)  # fmt: skip


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def section(title: str) -> str:
    """The part of CONTRACTS.md under a heading."""
    return re.split(r"^## ", CONTRACTS.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def first_cells(text: str) -> list[str]:
    """The code words in the first column of the tables of a text."""
    rows = re.findall(r"^\| (`[^|]*) \|", text, flags=re.MULTILINE)
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


def blocks(path: Path) -> list[str]:
    """The lines of a document that are set as code, fenced or indented."""
    text = path.read_text()
    fenced = re.findall(r"^```\w*\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?:^ {4,}\S.*\n)+", text, flags=re.MULTILINE)
    return fenced + indented


def shown_commands() -> list[tuple[str, str]]:
    """Every command line of ours that a document shows, with the document's name."""
    found = []
    for path in DOCUMENTS:
        spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL))
        lines = [line for block in blocks(path) for line in block.splitlines()] + spans
        matches = [re.match(r"(?:\.venv/bin/)?pushrail-stream ([a-z].*)", " ".join(line.split())) for line in lines]
        found += [(named(path), match[1].rstrip(".,;:")) for match in matches if match]
    return sorted(set(found))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_readme_takes_three_minutes() -> None:
    assert len(README.read_text().splitlines()) <= 150


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", path.read_text()):
        place, _, anchor = target.partition("#")
        file = (path.parent / place).resolve() if place else path
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize(("document", "line"), shown_commands())
def test_a_shown_command_can_be_called_so(document: str, line: str) -> None:
    del document
    words = shlex.split(line.partition(" |")[0], comments=True)
    words = words[: next((n for n, word in enumerate(words) if word in {"...", "…"}), len(words))]
    command: click.Command = root
    context = click.Context(root, info_name="pushrail-stream")
    while words and isinstance(command, click.Group) and (found := command.get_command(context, words[0])) is not None:
        command, context = found, click.Context(found, info_name=words.pop(0), parent=context)
    assert command is not root, line
    known = {option for parameter in command.get_params(context) for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, line
    if isinstance(command, click.Group):
        assert not words or words[0].startswith("-"), line


def test_the_readme_shows_the_example_event_and_document() -> None:
    event, document, arrived = (
        json.loads(block) for block in re.findall(r"```json\n(.*?)```", README.read_text(), flags=re.DOTALL)
    )
    assert event == json.loads((ROOT / "tests/fixtures/example-event.json").read_text())
    assert document == json.loads((ROOT / "config/destinations/acme-8K2zRq.json").read_text())
    assert arrived["source"] == document["sourceNamespace"]
    assert arrived["detail-type"] == arrived["detail"]["eventType"] == event["eventType"]
    assert arrived["resources"] == [event["customerExternalId"], event["idempotencyKey"]]


def test_the_readme_shows_the_table_of_todays_sandbox() -> None:
    header, *rows = re.findall(r"^    ((?:customer|acct_\w+) .*)$", README.read_text(), flags=re.MULTILINE)
    assert re.split(r"  +", header)[1] == "destination"
    shown = {tuple(re.split(r"  +", row)[:2]) for row in rows}
    made = {(customer.external_id, target.id) for customer in CUSTOMERS for target in customer.targets}
    assert shown == made | {(NOBODY, "-")}


def test_the_contracts_name_every_delivery_header() -> None:
    table = section("Delivery headers")
    shown = [word for word in first_cells(table) if word.startswith("pushrail-")]
    assert shown == [field.header for field in headers._FIELDS]
    assert set(first_cells(table)) - set(shown) == {*get_args(DeadReason), *get_args(RetryReason)}


def test_the_contracts_name_every_record_value() -> None:
    table = section("The attempt record")
    for values in (get_args(Trigger), get_args(SkipReason)):
        assert all(f"`{value}`" in table for value in values)


def test_the_contracts_name_every_command() -> None:
    assert sorted(first_cells(section("The command line").split("| exit code |")[0])) == sorted(
        " ".join(words) for words in COMMANDS if words
    )


def test_every_shown_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    pattern = re.compile(r"(?:`|^ {4})make ([a-z-]+)", re.MULTILINE)
    shown = {name for path in DOCUMENTS for name in pattern.findall(path.read_text())}
    assert shown <= targets


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_named_file_exists(path: Path) -> None:
    """Names set as code, looked for from the root, in the package and beside the document."""
    words = re.findall(r"`([\w.-][\w./-]*\.(?:py|md|yaml|json|sql|toml|lock))`", path.read_text())
    for word in words:
        assert any((start / word).exists() for start in (ROOT, ROOT / "pushrail_stream", path.parent)), word


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.stem != "CHANGELOG"], ids=named)
def test_documented_names_exist_in_the_code(path: Path) -> None:
    """Settings, events of the log, reasons, fields: any word with an underscore, set as code."""
    folders = (ROOT / folder for folder in ("pushrail_stream", "tests/bench", "tests/chaos"))
    code = "\n".join(source.read_text() for folder in folders for source in folder.rglob("*.py"))
    words = set(re.findall(r"`(?:[a-z]+\.)?([a-z]+(?:_[a-z]+)+)`", path.read_text()))
    words = {word for word in words if not word.startswith("process_")}  # Prometheus' client has these
    assert {word for word in words if word.removesuffix("_total") not in code} == set()


def test_a_delivered_record_crosses_twenty_files() -> None:
    way = (
        (ROOT / "pushrail_stream" / "README.md")
        .read_text()
        .split("\n## A record's way\n")[1]
        .split("\n\nA delivery")[0]
    )
    assert len(set(re.findall(r"`(\w+/\w+\.py)`", way))) == 20


def test_the_file_map_follows_the_layers() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contract = next(found for found in project["tool"]["importlinter"]["contracts"] if found["type"] == "layers")
    layers = [room for layer in contract["layers"] for room in layer.split(" | ") if room != "__main__"]
    table = (ROOT / "pushrail_stream" / "README.md").read_text().split("\n## File map\n")[1].split("\n## ")[0]
    assert [word.removesuffix("/").removesuffix(".py") for word in first_cells(table)] == layers
