"""Forms of a posted event: the canonical event, and the three of a CloudEvent over HTTP.

A CloudEvent becomes a canonical event before it is written to Kafka, so workers need no setting for it (CONTRACTS.md,
"Other formats").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Literal, final
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from pushrail_stream.core.event import Event, Undecodable, decode, problems
from pushrail_stream.formats.cloudevents import MEDIA_TYPE, from_binary, from_structured, renamed
from pushrail_stream.ingest.errors import HttpProblem, broken_rule
from pushrail_stream.ingest.request import filled, idempotency_key, split

Form = Literal["canonical", "structured", "batch", "binary"]
_FORMS: Final[dict[str, Form]] = {
    "application/json": "canonical",
    f"{MEDIA_TYPE}+json": "structured",
    f"{MEDIA_TYPE}-batch+json": "batch",
}
"""By media type. A body of the first one is in binary mode when the request has the header of that mode."""
_CONTENT_TYPE: Final = re.compile(r"([^\s;]+)\s*(;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)
_BINARY_HEADER: Final = "ce-specversion"
_PREFIX: Final = "ce-"


@final
class PostedForm:
    """Reads the events of one request, for one vendor."""

    def __init__(self, request: Request, vendor: str) -> None:
        """Raises `HttpProblem` unless the body is JSON of a known form."""
        self._request = request
        self._vendor = vendor
        self._form = _form(request)
        self._key: str | None = None
        self.read: Callable[[bytes, int | None], Event | list[Undecodable]]
        """The event, or every rule that it breaks. The number is its place in an array."""
        self.read = self._canonical if self._form == "canonical" else self._cloudevent

    def split(self, body: bytes) -> tuple[list[bytes], bool]:
        """The events of the body, byte for byte, and whether they came in an array."""
        values, is_array = ([body], False) if self._form in {"structured", "binary"} else split(body)
        if self._form == "batch" and not is_array:
            raise broken_rule(Undecodable("value", "is not a JSON array"))
        self._key = idempotency_key(self._request)
        return values, is_array

    def _cloudevent(self, value: bytes, _index: int | None) -> Event | list[Undecodable]:
        converted = from_binary(value, self._attributes()) if self._form == "binary" else from_structured(value)
        if isinstance(converted, Undecodable):
            return [converted]
        event = converted.decode((), self._vendor)
        if isinstance(event, Event):
            return event
        return [renamed(problem) for problem in problems(converted.value)] or [event]

    def _canonical(self, value: bytes, index: int | None) -> Event | list[Undecodable]:
        if self._key is not None:
            value = filled(value, self._key if index is None else f"{self._key}-{index}")
        event = decode(value, (), self._vendor)
        if isinstance(event, Event):
            return event
        return [event] if event.field == "value" else problems(value) or [event]

    def _attributes(self) -> dict[str, bytes]:
        """The attributes in headers. A character may stand as its UTF-8 in per cent (CloudEvents, "HTTP Binding")."""
        found = ((name.lower(), text) for name, text in self._request.headers.items())
        return {name.removeprefix(_PREFIX): _unquoted(text) for name, text in found if name.startswith(_PREFIX)}


def _form(request: Request) -> Form:
    matched = _CONTENT_TYPE.fullmatch(request.headers.get("content-type", "").strip())
    form = _FORMS.get(matched[1].lower()) if matched else None
    if form is None:
        detail = f"Content-Type: must be one of {', '.join(_FORMS)}, in UTF-8"
        raise HttpProblem(415, detail, headers={"Accept": ", ".join(_FORMS)})
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        detail = "Content-Encoding: the body must not be compressed"
        raise HttpProblem(415, detail, headers={"Accept-Encoding": "identity"})
    return "binary" if form == "canonical" and _BINARY_HEADER in request.headers else form


def _unquoted(text: str) -> bytes:
    bare = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    return unquote_to_bytes(bare.encode("latin-1"))
