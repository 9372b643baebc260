"""No secret appears in anything that the product wrote: logs, metrics, errors, and records of its topics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from pushrail_stream.core.record import Record
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Violation, position_of

ASSERTION: Final = "no secret is written"
_SHORTEST: Final = 8
"""Least characters of a secret that is looked for: a shorter one appears by chance."""
_WORD: Final = re.compile(r"[A-Za-z0-9+/=]{16,}")
"""A run of characters that can hold a key or a token. Texts repeat most of theirs, so few are searched for secrets."""


def find_secrets(story: Deliveries) -> Iterator[Violation]:
    """A violation for each text with a secret in it. The secret itself is not told."""
    evidence = story.evidence
    records = [(one, _text_of(one.record)) for one in evidence.written if one.host]
    everything = "\n".join([*(one.text for one in (*evidence.texts, *evidence.raised)), *(text for _, text in records)])
    words = "\n".join(set(_WORD.findall(everything)))
    wanted = (secret for secret in evidence.secrets if len(secret) >= _SHORTEST)
    told = sorted(secret for secret in wanted if secret in (words if _WORD.fullmatch(secret) else everything))
    if not told:
        return
    pattern = re.compile("|".join(map(re.escape, told)))
    for text in (*evidence.texts, *evidence.raised):
        if (found := pattern.search(text.text)) is not None:
            where = f"{text.where} of {text.host or 'the world'} at {text.at:.3f}"
            yield Violation(ASSERTION, f"{where} has a secret: {_around(text.text, found)}", text.at)
    for one, content in records:
        if pattern.search(content) is not None:
            sentence = f"the record at {position_of(one.origin)}, written by {one.host}, has a secret"
            yield Violation(ASSERTION, sentence, one.at)


def _text_of(record: Record) -> str:
    parts = [record.key or b"", record.value or b"", *(value or b"" for _, value in record.headers)]
    return b"\n".join(parts).decode("latin-1")


def _around(text: str, found: re.Match[str]) -> str:
    return f"{text[max(0, found.start() - 40) : found.start()]}***{text[found.end() : found.end() + 20]}"
