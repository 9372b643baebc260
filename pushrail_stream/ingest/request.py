"""The parts of a request to post events: each is read by its rule, or the request is refused."""

from __future__ import annotations

import re
import secrets
from typing import Final

import msgspec
import orjson
from starlette.requests import Request

from pushrail_stream.core.event import MAX_ID, TRACEPARENT_HEADER, Undecodable, valid_traceparent
from pushrail_stream.ingest.errors import HttpProblem, broken_rule

MAX_EVENTS: Final = 500
"""Most events of one request."""
MAX_IDEMPOTENCY_KEY: Final = MAX_ID - len(f"-{MAX_EVENTS - 1}")
"""Most characters of the header, so that its value with an event's index appended is a valid idempotencyKey."""
_IDEMPOTENCY_KEY: Final = re.compile(rf"[ -~]{{1,{MAX_IDEMPOTENCY_KEY}}}")
_JSON_SPACE: Final = b" \t\n\r"
_ARRAY: Final = re.compile(rb"[ \t\n\r]*\[")
_TRACEPARENT_CHARS: Final = 55
"""Length of the four fields of version 00. Later versions may append fields of any length."""
_ENOUGH_DIGITS: Final = 20


def check_announced(request: Request, limit: int) -> None:
    """Raise `HttpProblem` for a body that announces a length above the limit, before it is read."""
    announced = request.headers.get("content-length", "")
    digits = announced.lstrip("0")[:_ENOUGH_DIGITS]
    if digits.isascii() and digits.isdigit() and int(digits) > limit:
        raise too_large(limit)


def too_large(limit: int) -> HttpProblem:
    """The refusal of a body. The rest of it is not kept, so the connection is closed."""
    return HttpProblem(413, f"a body may have {limit} bytes", headers={"Connection": "close"})


def split(body: bytes) -> tuple[list[bytes], bool]:
    """The events of a body, byte for byte, and whether they came in an array."""
    if not _ARRAY.match(body):
        return [body], False
    try:
        values = [bytes(raw) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except RecursionError:  # its text is the interpreter's
        raise broken_rule(Undecodable("value", "is not a JSON array that can be read: nested too deeply")) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise broken_rule(Undecodable("value", f"is not a JSON array: {error}")) from None
    if not 1 <= len(values) <= MAX_EVENTS:
        raise broken_rule(Undecodable("value", f"has {len(values)} events, not 1 to {MAX_EVENTS}"))
    return values, True


def idempotency_key(request: Request) -> str | None:
    """The header ``Idempotency-Key``, without the quotes of its draft standard; None when there is none."""
    raw = request.headers.get("idempotency-key")
    if raw is None:
        return None
    key = raw[1:-1] if len(raw) > 1 and raw[0] == raw[-1] == '"' else raw
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        problem = f"is not 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters"
        raise broken_rule(Undecodable("Idempotency-Key", problem))
    return key


def filled(value: bytes, key: str) -> bytes:
    """The event with a missing ``idempotencyKey`` added as last member; every other byte as it was posted."""
    try:
        data = orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
    if type(data) is not dict or "idempotencyKey" in data:
        return value
    head = value.rstrip(_JSON_SPACE).removesuffix(b"}").rstrip(_JSON_SPACE)
    return head + (b"," if data else b"") + b'"idempotencyKey":' + orjson.dumps(key) + b"}"


def traceparent(request: Request) -> bytes:
    """The request's trace parent when it is valid; else a new one, not sampled, so that the event can be followed."""
    given = request.headers.get(TRACEPARENT_HEADER, "").encode("latin-1")
    if valid_traceparent(given) is not None:
        return given[:_TRACEPARENT_CHARS]
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00".encode()
