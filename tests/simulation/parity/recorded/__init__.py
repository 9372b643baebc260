"""The observations of the stories on a real Kafka 4.3, one file for each."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent


def record(story: str, notes: list[str]) -> None:
    """Keep the notes of a story."""
    (_FOLDER / f"{story}.txt").write_text("\n".join(notes) + "\n", encoding="utf-8")


def recorded(story: str) -> list[str]:
    """The notes that were kept; none if the story is new."""
    path = _FOLDER / f"{story}.txt"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def recorded_stories() -> set[str]:
    """The names of stories that have been recorded."""
    return {path.stem for path in _FOLDER.glob("*.txt")}
