"""The tests mirror the package: the test of a module is at the module's path."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent
PACKAGE: Final = TESTS.parent / "pushrail_stream"
UNTESTED: Final = {
    "__main__.py": "it calls the command line, which tests start as a process",
    "ports/documents.py": "protocols alone; tests of the adapters and of their users show what they mean",
    "ports/fleet.py": "a protocol alone",
    "ports/kafka.py": "protocols and values alone",
    "ports/pipeline.py": "protocols and values alone",
    "ports/secrets.py": "protocols alone",
}
"""Modules without a test of their own, each with the reason."""


def modules() -> set[str]:
    return {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}


def test_every_module_has_a_test_at_its_path() -> None:
    missing = {name for name in modules() if not (TESTS / Path(name).parent / f"test_{Path(name).name}").exists()}
    assert missing == set(UNTESTED)


def test_every_test_file_has_tests() -> None:
    empty = [
        str(path.relative_to(TESTS))
        for path in TESTS.rglob("test_*.py")
        if not re.search(r"^\s*(async )?def test_\w+", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert empty == []


def test_builders_stand_once() -> None:
    """`destination` and `event` have one builder each, in tests/support/builders.py."""
    found: dict[str, list[str]] = {"destination": [], "event": []}
    for path in (TESTS / "support").rglob("*.py"):
        for name in re.findall(r"^def (destination|event)\(", path.read_text(encoding="utf-8"), re.MULTILINE):
            found[name].append(path.name)
    assert found == {"destination": ["builders.py"], "event": ["builders.py"]}
