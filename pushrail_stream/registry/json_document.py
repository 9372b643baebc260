"""A document as JSON, valid or not: its id, its sealed secret, and its text with one value changed or masked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from pushrail_stream.registry import rules
from pushrail_stream.registry.sealing import Place
from pushrail_stream.settings.values import MASK

SECRET_FIELD: Final = "auth.secretAccessKey"  # noqa: S105 - a field's name
_MAX_NAME: Final = 64
"""Most characters of an unknown field's name that a message quotes."""


class Problem(NamedTuple):
    """A problem of a document: its dotted field (empty for the whole document) and a sentence without values."""

    field: str
    problem: str


Switch = Literal["enabled", "paused"]
"""A field of a document that is true or false."""
_SWITCHES: Final[Mapping[Switch, bool]] = {"enabled": True, "paused": False}
"""Their values where they are absent."""
_DECODER: Final = json.JSONDecoder()
_SPACE: Final = " \t\r\n"
_LEVELS: Final = 2
"""Most names that lead to a field of a document: ``auth``, ``roleArn``."""


class _DuplicateFieldError(ValueError):
    pass


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # JSON does not say which of two equal names wins, so both are refused.
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise _DuplicateFieldError(printable(twice))
    return fields


def read_json(content: bytes) -> object:
    """The JSON value, or the problem of the text, which quotes none of it."""
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        return Problem("", f"is not UTF-8 text (byte {error.start})")
    except json.JSONDecodeError as error:
        return Problem("", f"is not valid JSON: line {error.lineno} column {error.colno}: {error.msg.lower()}")
    except _DuplicateFieldError as error:
        return Problem(str(error), "stands twice in one object")
    except (ValueError, RecursionError):
        return Problem("", "is not valid JSON: nested too deeply, or a number too long")


def printable(name: str) -> str:
    """A name from a document, fit for one line of any output."""
    shown = name if len(name) <= _MAX_NAME else name[:_MAX_NAME] + "..."
    return shown if shown.isprintable() else ascii(shown)[1:-1]


class Sealed(NamedTuple):
    """A document's sealed secret and its place."""

    place: Place
    token: str


def sealed_in(content: bytes) -> Sealed | Problem | None:
    """A document's sealed secret, also of a document that is refused; None if it has none.

    A `Problem` if the document cannot be parsed.
    """
    value = read_json(content)
    if isinstance(value, Problem):
        return value
    reference = (_part(value, "auth") or {}).get("secretAccessKey")
    if not isinstance(reference, str) or not reference.startswith(rules.SEALED):
        return None
    place = _place(value)
    return place if isinstance(place, Problem) else Sealed(place, reference)


def with_secret(content: bytes, seal: Callable[[Place], str], access_key_id: str | None = None) -> bytes | Problem:
    """The document with its secret sealed for its place, and with another access key id if one is given."""
    value = read_json(content)
    if isinstance(value, Problem):
        return value
    place, auth = _place(value), _part(value, "auth")
    if isinstance(place, Problem):
        return place
    if not isinstance(value, dict) or auth is None or auth.get("mode") != "ACCESS_KEY":
        return Problem("auth.mode", "must be ACCESS_KEY: a role has no secret")
    changed = {**auth, "secretAccessKey": seal(place)}
    if access_key_id is not None:
        changed["accessKeyId"] = access_key_id
    return (json.dumps({**value, "auth": changed}, indent=2, ensure_ascii=False) + "\n").encode(errors="surrogatepass")


def with_switch(content: bytes, name: Switch, *, on: bool) -> bytes:
    """A valid document with one of its switches set; nothing else of its text changes."""
    text = content.decode()
    if json.loads(text).get(name, _SWITCHES[name]) is on:
        return content
    spans, value = _spans(text), json.dumps(on)
    if (name,) in spans:
        begin, end = spans[name,]
        return f"{text[:begin]}{value}{text[end:]}".encode()
    # The new field is the last one, with the space before it that the first one has.
    end = max(end for path, (_, end) in spans.items() if path)
    space = text[text.index("{") + 1 : text.index('"')] or " "
    return f'{text[:end]},{space}"{name}": {value}{text[end:]}'.encode()


def masked(text: str, paths: Iterable[Sequence[object]]) -> str:
    """A JSON text with the values at these paths masked. A path into a list masks the list."""
    spans = _spans(text)
    wanted = {next(path for n in range(len(full), -1, -1) if (path := tuple(full[:n])) in spans) for full in paths}
    outer = (path for path in wanted if not any(path[:n] in wanted for n in range(len(path))))
    for begin, end in sorted((spans[path] for path in outer), reverse=True):
        text = f"{text[:begin]}{json.dumps(MASK)}{text[end:]}"
    return text


def _spans(text: str, at: int = 0, path: tuple[object, ...] = ()) -> dict[tuple[object, ...], tuple[int, int]]:
    """Begin and end of the JSON value at this position, and of the values of its fields and of their fields."""
    begin = at = _skip(text, at, _SPACE + ":")
    spans = {path: (begin, _DECODER.raw_decode(text, begin)[1])}
    if text[begin] == "{" and len(path) < _LEVELS:
        while text[at := _skip(text, at, _SPACE + "{,")] == '"':
            field, at = _DECODER.raw_decode(text, at)
            spans |= _spans(text, at, (*path, field))
            at = spans[*path, field][1]
    return spans


def _skip(text: str, at: int, characters: str) -> int:
    while text[at] in characters:
        at += 1
    return at


def id_of(content: bytes) -> str | None:
    """The id in a document, valid or not."""
    value = read_json(content)
    found = value.get("id") if isinstance(value, dict) else None
    return found if isinstance(found, str) else None


def _part(value: object, name: str) -> dict[str, Any] | None:
    part = value.get(name) if isinstance(value, dict) else None
    return part if isinstance(part, dict) else None


def _place(value: object) -> Place | Problem:
    """The place of the secret of a document."""
    fields = value if isinstance(value, dict) else {}
    for name in ("vendor", "id"):
        if not isinstance(fields.get(name), str):
            return Problem(name, "is required and must be text: a secret is sealed for it")
    return Place(fields["vendor"], fields["id"], SECRET_FIELD)
