"""Answers as AWS writes them: JSON 1.1, CBOR of eventbridgev2, XML of STS, and their bytes in HTTP/1.1."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from http.client import responses
from typing import Any, Final, NamedTuple
from xml.sax.saxutils import escape

import cbor2
import orjson

from pushrail_stream.sandbox.bus.signature import Unauthenticated
from tests.simulation.aws.records import Api, Call

CBOR: Final = "application/cbor"
JSON_1_1: Final = "application/x-amz-json-1.1"
_STS_NAMESPACE: Final = "https://sts.amazonaws.com/doc/2011-06-15/"
_SERVER_ERROR: Final = 500


class Answer(NamedTuple):
    """An answer of any status. ``headers`` has no length: `wire` adds it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    code: str = ""
    """The error code that it carries."""


def json_answer(document: Mapping[str, Any], request_id: str) -> Answer:
    """A success of a JSON service."""
    return Answer(200, (("x-amzn-RequestId", request_id), ("Content-Type", JSON_1_1)), orjson.dumps(document))


def json_error(status: int, code: str, message: str, request_id: str) -> Answer:
    """A refusal by a JSON service."""
    headers = (("x-amzn-RequestId", request_id), ("Content-Type", JSON_1_1), ("x-amzn-ErrorType", code))
    return Answer(status, headers, orjson.dumps({"__type": code, "message": message}), code)


def cbor_answer(document: Mapping[str, Any], request_id: str) -> Answer:
    """A success of a service that speaks Smithy's RPC v2 CBOR."""
    return Answer(200, (("x-amzn-RequestId", request_id), ("Content-Type", CBOR)), cbor2.dumps(document))


def cbor_error(status: int, code: str, message: str, request_id: str) -> Answer:
    """A refusal by such a service."""
    body = cbor2.dumps({"__type": f"com.amazonaws.eventbridgev2#{code}", "Message": message})
    return Answer(status, (("x-amzn-RequestId", request_id), ("Content-Type", CBOR)), body, code)


def xml_answer(action: str, result: str, request_id: str) -> Answer:
    """A success of STS; ``result`` is XML."""
    body = (
        f'<{action}Response xmlns="{_STS_NAMESPACE}"><{action}Result>{result}</{action}Result>'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
    )
    return Answer(200, (("x-amzn-RequestId", request_id), ("Content-Type", "text/xml")), body.encode())


def xml_error(status: int, code: str, message: str, request_id: str) -> Answer:
    """A refusal by STS."""
    side = "Sender" if status < _SERVER_ERROR else "Receiver"
    body = (
        f'<ErrorResponse xmlns="{_STS_NAMESPACE}"><Error><Type>{side}</Type><Code>{escape(code)}</Code>'
        f"<Message>{escape(message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    )
    return Answer(status, (("x-amzn-RequestId", request_id), ("Content-Type", "text/xml")), body.encode(), code)


_AUTH_ERRORS: Final[Mapping[str, Mapping[str, tuple[int, str]]]] = {
    "json": {
        "missing": (400, "MissingAuthenticationToken"),
        "incomplete": (403, "IncompleteSignature"),
        "unknown": (400, "UnrecognizedClientException"),
        "expired": (400, "ExpiredTokenException"),
        "signature": (400, "InvalidSignatureException"),
    },
    "cbor": {
        "missing": (403, "MissingAuthenticationTokenException"),
        "incomplete": (403, "IncompleteSignatureException"),
        "unknown": (403, "UnrecognizedClientException"),
        "expired": (403, "ExpiredTokenException"),
        "signature": (403, "InvalidSignatureException"),
    },
    "xml": {
        "missing": (403, "MissingAuthenticationToken"),
        "incomplete": (400, "IncompleteSignature"),
        "unknown": (403, "InvalidClientTokenId"),
        "expired": (403, "ExpiredToken"),
        "signature": (403, "SignatureDoesNotMatch"),
    },
}
"""Status and code by which each protocol refuses a request whose sender is not known."""


_QUERY: Final[frozenset[Api]] = frozenset({"AssumeRole", "GetCallerIdentity"})


def error(call: Call, status: int, code: str, message: str, request_id: str) -> Answer:
    """A refusal in the protocol of this call."""
    if call.is_v2:
        return cbor_error(status, code, message, request_id)
    write = xml_error if call.api in _QUERY else json_error
    return write(status, code, message, request_id)


def unauthenticated(call: Call, fault: Unauthenticated, request_id: str) -> Answer:
    """The refusal of a request whose sender is not known."""
    protocol = "cbor" if call.is_v2 else "xml" if call.api in _QUERY else "json"
    status, code = _AUTH_ERRORS[protocol][fault.fault]
    return error(call, status, code, fault.message, request_id)


def wire(answer: Answer, now: float) -> bytes:
    """The bytes of an answer that was written at ``now``, in epoch seconds by AWS's clock."""
    names = {name.lower() for name, _ in answer.headers}
    lines = [f"HTTP/1.1 {answer.status} {responses.get(answer.status, 'Status')}"]
    if "date" not in names:
        lines.append(f"Date: {format_datetime(datetime.fromtimestamp(now, UTC), usegmt=True)}")
    lines += [f"{name}: {value}" for name, value in answer.headers]
    if not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(answer.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + answer.body
