"""The destination documents of a registry as one file: written by an export, read by an import.

The file has one JSON object a line: first a head, with the number of documents and their hash, then the documents in
the order of their ids. Secrets stay sealed, or are names of variables, as the documents have them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pushrail_stream.core.signals import DocumentRefused
from pushrail_stream.documents import document_parser
from pushrail_stream.errors import UsageError
from pushrail_stream.operations.document_changes import plan_put
from pushrail_stream.operations.document_plan import PlannedChange, Prune, field_of, stored_documents
from pushrail_stream.ports.documents import DocumentChange
from pushrail_stream.registry.documents import Parsed
from pushrail_stream.registry.json_document import Problem, Sealed, read_json, sealed_in
from pushrail_stream.registry.sealing import Token
from pushrail_stream.settings.model import Settings

_FORMAT: Final = "pushrail-destinations"


class _Head(BaseModel):
    """The first line of the file."""

    model_config = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True)

    format: Literal["pushrail-destinations"]
    version: Literal[1]
    documents: int
    sha256: str | None = None
    """Hash of all bytes below this line. It is absent from a file that was edited."""


@dataclass(frozen=True, slots=True)
class Backup:
    """An export, and the documents that are not in it."""

    content: bytes
    documents: int
    sealing_keys: Counter[str]
    """Number of documents that each key has sealed, by key id."""
    refusals: Sequence[DocumentRefused]


def export_documents(settings: Settings, vendor: str | None = None) -> Backup:
    """The documents of the registry, or of one vendor. One that would be refused is left out: it may hold a secret.

    No keyring is needed. Raises `OperatorError`.
    """
    parse = document_parser(settings, os.environ, decrypt=False)
    lines: dict[str, bytes] = {}
    keys, refusals = Counter[str](), list[DocumentRefused]()
    for document in stored_documents(settings):
        if vendor not in {None, field_of(document, "vendor")}:
            continue
        name, content, problem = document
        parsed = (Problem("", problem),) if content is None else parse(content)
        if content is None or not isinstance(parsed, Parsed) or parsed.locked is not None:
            problems = [parsed.locked] if isinstance(parsed, Parsed) else parsed
            refusals += [DocumentRefused(name, *found) for found in problems if found is not None]
        elif parsed.destination.id in lines:
            refusals.append(DocumentRefused(name, "id", "is the id of several documents: delete one of them"))
        else:
            lines[parsed.destination.id] = _line(read_json(content))
            sealed = sealed_in(content)
            token = Token.parse(sealed.token) if isinstance(sealed, Sealed) else None
            keys.update([] if token is None else [token.key_id])
    body = b"".join(lines[destination_id] for destination_id in sorted(lines))
    head = {"format": _FORMAT, "version": 1, "documents": len(lines), "sha256": hashlib.sha256(body).hexdigest()}
    return Backup(_line(head) + body, len(lines), keys, refusals)


def read_backup(name: str, content: bytes) -> list[DocumentChange]:
    """The documents of an export, each named by its line. Raises `UsageError` when the file is none, or is damaged."""
    first, _, body = content.partition(b"\n")
    try:
        head = _Head.model_validate_json(first)
    except ValidationError:
        raise UsageError(f"{name}: line 1: is not the head that `destinations export` writes") from None
    lines = [(number, line) for number, line in enumerate(body.split(b"\n"), 2) if line.strip()]
    if len(lines) != head.documents:
        raise UsageError(f"{name}: has {len(lines)} documents, and line 1 says {head.documents}: a part is missing")
    if head.sha256 not in {None, hashlib.sha256(body).hexdigest()}:
        raise UsageError(f"{name}: is not as it was exported; when you have edited it, take sha256 out of line 1")
    return [DocumentChange(f"{name}:{number}", line) for number, line in lines]


def plan_import(
    settings: Settings, given: Sequence[DocumentChange], prune: Prune | None = None, *, decrypt: bool = True
) -> list[PlannedChange]:
    """The changes that bring the documents of an export into the registry; `write_plan` makes them.

    A stored document with equal values keeps its text. ``decrypt``: whether sealed secrets must open, which takes the
    keyring. Raises `UsageError` when one of the documents would be refused by itself or beside the others.
    """
    stored = stored_documents(settings)
    texts = {field_of(document, "id"): document.content for document in stored if document.content is not None}
    documents = [
        document._replace(content=_text(document.content or b"", texts.get(field_of(document, "id"))))
        for document in given
    ]
    return plan_put(settings, documents, prune, stored=stored, decrypt=decrypt)


def _text(line: bytes, stored: bytes | None) -> bytes:
    """The text to store for a line: the present one when its values are the same, else one that people can read."""
    value = read_json(line)
    if isinstance(value, Problem):
        return line  # it is refused with this problem
    if stored is not None and _sorted(read_json(stored)) == _sorted(value):
        return stored
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(errors="surrogatepass")


def _sorted(value: Any) -> str:
    """A JSON value as text that does not depend on the order of fields. Python itself takes true for 1."""
    return json.dumps(value, sort_keys=True)


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
